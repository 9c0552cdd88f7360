"""Who there is, who belongs to which organisation, and which keys and sessions still open a door."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.messages.identity import (
    IdentityEvent,
    InviteRotated,
    KeyId,
    KeyIssued,
    KeyRevoked,
    MemberAdmitted,
    OrganizationCreated,
    OrganizationId,
    OrganizationJoined,
    SessionEnded,
    UserId,
    UserRegistered,
)
from core.messages.names import NameId


class User(Struct, frozen=True):
    """`sealed` opens with the user's own key only (`core.vault`)."""

    user_id: UserId
    ordinal: int
    sealed: str
    username: NameId
    email: NameId | None
    organization_id: OrganizationId | None
    at_ms: int


class Organization(Struct, frozen=True):
    organization_id: OrganizationId
    ordinal: int
    name: str
    invite_hash: str
    created_by: UserId
    members: tuple[UserId, ...]
    at_ms: int


class Key(Struct, frozen=True):
    key_id: KeyId
    ordinal: int
    tenant: str
    user_id: UserId
    name: str
    secret_hash: str
    revoked: bool
    at_ms: int


class Identity:
    """Nobody here is ever removed, so the ordinals 1, 2, 3 are places in the order of arrival."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.organizations: dict[str, Organization] = {}
        self.keys: dict[str, Key] = {}
        self._numbered: list[str] = []
        self._holders: dict[str, str] = {}
        self._invited: dict[str, str] = {}
        self._ended: dict[str, int] = {}

    def user(self, user_id: str) -> User | None:
        return self.users.get(user_id)

    def user_numbered(self, ordinal: int) -> User | None:
        return self.users[self._numbered[ordinal - 1]] if 0 < ordinal <= len(self._numbered) else None

    def holder(self, name_id: str) -> User | None:
        """Who has registered with this username or e-mail address."""
        return self.users.get(self._holders.get(name_id, ""))

    def organization(self, organization_id: str) -> Organization | None:
        return self.organizations.get(organization_id)

    def organization_invited(self, invite_hash: str) -> Organization | None:
        """The organisation that the invite code with this hash opens."""
        return self.organizations.get(self._invited.get(invite_hash, ""))

    def is_ended(self, session: str) -> bool:
        """Whether its user has signed out of it."""
        return session in self._ended

    def state(self) -> Any:
        return [self.users, self.organizations, self.keys, self._ended]

    def apply(self, tenant: str, position: int, event: IdentityEvent) -> None:
        match event:
            case UserRegistered():
                self._register(event)
            case OrganizationCreated():
                self._create(event)
            case InviteRotated(organization_id=id, invite_hash=invite_hash):
                if rotated := self.organizations.get(id):
                    self._invited.pop(rotated.invite_hash, None)
                    self._invited[invite_hash] = id
                    self.organizations[id] = replace(rotated, invite_hash=invite_hash)
            case MemberAdmitted(organization_id=id, user_id=user_id):
                if organization := self.organizations.get(id):
                    members = (*organization.members, user_id)
                    self.organizations[id] = replace(organization, members=members)
            case OrganizationJoined(user_id=user_id, organization_id=organization_id):
                if user := self.users.get(user_id):
                    self.users[user_id] = replace(user, organization_id=organization_id)
            case KeyIssued():
                self.keys[event.key_id] = Key(
                    key_id=event.key_id,
                    ordinal=len(self.keys) + 1,
                    tenant=event.tenant,
                    user_id=event.user_id,
                    name=event.name,
                    secret_hash=event.secret_hash,
                    revoked=False,
                    at_ms=event.at_ms,
                )
            case KeyRevoked(key_id=key_id):
                if key := self.keys.get(key_id):
                    self.keys[key_id] = replace(key, revoked=True)
            case SessionEnded(session=session, until_ms=until_ms, at_ms=at_ms):
                self._end(session, until_ms, at_ms)

    def _register(self, event: UserRegistered) -> None:
        self._numbered.append(event.user_id)
        self.users[event.user_id] = User(
            user_id=event.user_id,
            ordinal=len(self._numbered),
            sealed=event.sealed,
            username=event.username,
            email=event.email,
            organization_id=None,
            at_ms=event.at_ms,
        )
        self._holders[event.username] = event.user_id
        if event.email:
            self._holders[event.email] = event.user_id

    def _create(self, event: OrganizationCreated) -> None:
        self.organizations[event.organization_id] = Organization(
            organization_id=event.organization_id,
            ordinal=len(self.organizations) + 1,
            name=event.name,
            invite_hash=event.invite_hash,
            created_by=event.created_by,
            members=(),
            at_ms=event.at_ms,
        )
        self._invited[event.invite_hash] = event.organization_id

    def _end(self, session: str, until_ms: int, at_ms: int) -> None:
        """Sessions are forgotten, oldest first, once what was issued for them has expired by itself."""
        self._ended[session] = until_ms
        while (first := next(iter(self._ended))) != session and self._ended[first] < at_ms:
            del self._ended[first]
