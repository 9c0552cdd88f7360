"""What people name on the command line; where there is no such thing, they are told where to look."""

from __future__ import annotations

import click

from gateway.cli.tables import plain, some
from projections.catalog import Image
from projections.clusters import Cluster
from projections.deployments import Deployment
from projections.fleet import Node
from projections.views import Views


def cluster(views: Views, word: str) -> Cluster:
    """By its id or its name."""
    clusters = views.scheduling.clusters
    named = (one for one in clusters.values() if one.name == word)
    found = clusters.get(word) or next(named, None)
    if found is None:
        raise click.ClickException(f"there is no such cluster: {plain(word)} (see `stratus clusters`)")
    return found


def deployment(views: Views, deployment_id: str) -> Deployment:
    found = views.deployments.deployment(deployment_id)
    if found is None:
        raise click.ClickException(
            f"there is no such deployment: {plain(deployment_id)} (see `stratus deployments`)"
        )
    return found


def node(views: Views, node_id: str) -> Node:
    found = views.fleet.node(node_id)
    if found is None:
        raise click.ClickException(f"there is no such node: {plain(node_id)} (see `stratus nodes`)")
    return found


def image(views: Views, image_id: str) -> Image:
    """One that can run."""
    found = views.catalog.image(image_id)
    if found is None:
        raise click.ClickException(f"there is no such image: {plain(image_id)} (see `stratus status`)")
    if not found.ref:
        raise click.ClickException(
            f"{image_id} has not been built yet, or its build failed: see `stratus status`"
        )
    return found


def tenant(views: Views, word: str) -> str:
    """A person's id, or an organisation's."""
    identity = views.identity
    if word not in identity.users and word not in identity.organizations:
        known = [*identity.organizations, *identity.users]
        there = f"there are {some(known)}" if known else "nobody has signed up yet"
        raise click.ClickException(f"there is no such tenant: {plain(word)} ({there})")
    return word


def owner(views: Views, tenant_id: str) -> str:
    """The person who answers for what belongs to the tenant."""
    organization = views.identity.organization(tenant_id)
    return organization.created_by if organization else tenant_id


def first_home(views: Views) -> str:
    """Where the operator's own things go: who signed up first is the operator."""
    user = views.identity.user_numbered(1)
    if user is None:
        raise click.ClickException("nobody has signed up yet, so it would be nobody's: sign up first")
    return user.organization_id or user.user_id
