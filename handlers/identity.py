"""Identity decides who is registered, who belongs where, and which keys are good."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
from core.message import Command
from core.messages.identity import (
    AdmitMember,
    AlreadyMember,
    CreateOrganization,
    EndSession,
    IdentityCommand,
    IdentityEvent,
    InviteIsWrong,
    InviteRotated,
    IssueKey,
    JoinOrganization,
    KeyExists,
    KeyIssued,
    KeyIsUnknown,
    KeyRevoked,
    MemberAdmitted,
    NotTheOwner,
    OrganizationCreated,
    OrganizationExists,
    OrganizationId,
    OrganizationIsUnknown,
    OrganizationJoined,
    RegisterUser,
    RevokeKey,
    RotateInvite,
    SessionEnded,
    UserExists,
    UserId,
    UserIsUnknown,
    UserRegistered,
)
from core.messages.names import NameId, ReserveName, name_id


class Nobody(Struct, frozen=True, tag=True):
    """A stream nothing was ever written to."""


class User(Struct, frozen=True, tag=True):
    """`ended_sessions` has until when each must be refused, and forgets those that have expired since."""

    username: NameId
    email: NameId | None
    organization_id: str | None = None
    ended_sessions: dict[str, int] = {}


class Organization(Struct, frozen=True, tag=True):
    name: str
    invite_hash: str
    created_by: str
    members: tuple[str, ...] = ()


class Key(Struct, frozen=True, tag=True):
    issued: KeyIssued
    revoked: bool = False


State = Nobody | User | Organization | Key
"""What one stream of this context is about; its first event says which, for ever."""


def decide(command: IdentityCommand, state: State) -> list[IdentityEvent]:
    match command:
        case RegisterUser(username=username, email=email):
            match state:
                case Nobody():
                    return [UserRegistered(**asdict(command))]
                case User() if (state.username, state.email) == (username, email):
                    return []  # `sealed` is not compared: it differs each time the same thing is sealed
                case _:
                    raise UserExists

        case CreateOrganization(name=name, created_by=created_by):
            match state:
                case Nobody():
                    return [OrganizationCreated(**asdict(command))]
                case Organization() if (state.name, state.created_by) == (name, created_by):
                    return []  # the invite is not compared: it may have been rotated since
                case _:
                    raise OrganizationExists

        case RotateInvite(invite_hash=invite_hash, by=by):
            if not isinstance(state, Organization):
                raise OrganizationIsUnknown
            if state.created_by != by:
                raise NotTheOwner
            if state.invite_hash == invite_hash:
                return []
            return [
                InviteRotated(
                    organization_id=OrganizationId(command.organization_id),
                    invite_hash=invite_hash,
                    at_ms=command.at_ms,
                )
            ]

        case AdmitMember(user_id=user_id):
            if not isinstance(state, Organization):
                raise OrganizationIsUnknown
            if user_id in state.members:
                return []
            if state.invite_hash != command.invite_hash:
                raise InviteIsWrong
            return [
                MemberAdmitted(
                    organization_id=OrganizationId(command.organization_id),
                    user_id=UserId(user_id),
                    at_ms=command.at_ms,
                )
            ]

        case JoinOrganization(organization_id=organization_id):
            if not isinstance(state, User):
                raise UserIsUnknown
            if state.organization_id == organization_id:
                return []
            if state.organization_id is not None:
                raise AlreadyMember
            return [
                OrganizationJoined(
                    user_id=UserId(command.user_id),
                    organization_id=OrganizationId(organization_id),
                    at_ms=command.at_ms,
                )
            ]

        case IssueKey(at_ms=at_ms):
            issued = KeyIssued(**asdict(command))
            match state:
                case Nobody():
                    return [issued]
                case Key() if replace(state.issued, at_ms=at_ms) == issued:
                    return []
                case _:
                    raise KeyExists

        case RevokeKey(by=by):
            if not isinstance(state, Key) or state.issued.user_id != by:
                raise KeyIsUnknown  # also to those it does not belong to: they shall not learn that it exists
            return [] if state.revoked else [KeyRevoked(key_id=state.issued.key_id, at_ms=command.at_ms)]

        case EndSession(session=session, until_ms=until_ms, at_ms=at_ms):
            if not isinstance(state, User):
                raise UserIsUnknown
            if until_ms <= max(at_ms, state.ended_sessions.get(session, 0)):
                return []
            return [SessionEnded(**asdict(command))]


def evolve(state: State, event: IdentityEvent) -> State:
    match event:
        case UserRegistered(username=username, email=email):
            return User(username, email)
        case OrganizationCreated(name=name, invite_hash=invite_hash, created_by=created_by):
            return Organization(name, invite_hash, created_by)
        case KeyIssued():
            return Key(event)
        case InviteRotated(invite_hash=invite_hash):
            assert isinstance(state, Organization)
            return replace(state, invite_hash=invite_hash)
        case MemberAdmitted(user_id=user_id):
            assert isinstance(state, Organization)
            return replace(state, members=(*state.members, user_id))
        case OrganizationJoined(organization_id=organization_id):
            assert isinstance(state, User)
            return replace(state, organization_id=organization_id)
        case KeyRevoked():
            assert isinstance(state, Key)
            return replace(state, revoked=True)
        case SessionEnded(session=session, until_ms=until_ms, at_ms=at_ms):
            assert isinstance(state, User)
            still_refused = {s: until for s, until in state.ended_sessions.items() if until > at_ms}
            return replace(state, ended_sessions={**still_refused, session: until_ms})


def alongside(command: IdentityCommand, state: State) -> tuple[Command, ...]:
    match command:
        case RegisterUser(user_id=user_id, username=username, email=email) if isinstance(state, Nobody):
            return tuple(ReserveName(name_id=name, holder=user_id) for name in (username, email) if name)
        case CreateOrganization(organization_id=organization_id, name=name) if isinstance(state, Nobody):
            # "ACME" and " acme" would be one organisation to any reader, so they are one name
            unique = name_id("organization", name.strip().casefold())
            return (ReserveName(name_id=unique, holder=organization_id),)
        case JoinOrganization() if isinstance(state, User) and state.organization_id is None:
            return (AdmitMember(**asdict(command)),)
        case _:
            return ()


decider: Decider[IdentityCommand, State, IdentityEvent] = Decider(Nobody(), decide, evolve, alongside)
