"""Identity: who people are, which organisation they belong to, which keys speak for them.

No personal datum is in these messages. What a person told us travels as
`sealed`, under a key of their own that lies beside the log (`core.vault`);
what must be unique travels as a keyed hash; of every secret only its hash.
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta

from core.message import Command, Event, Millis, Rejection, Token, Unknown
from core.messages.names import NameId

UserId = NewType("UserId", str)
OrganizationId = NewType("OrganizationId", str)
KeyId = NewType("KeyId", str)
Sealed = Annotated[str, Meta(min_length=1, max_length=4000)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
OrganizationName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
KeyName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]


class RegisterUser(Command):
    """Reserves `username` and, if given, `email` (ids of names) alongside."""

    user_id: Token
    sealed: Sealed
    username: Token
    email: Token | None
    at_ms: Millis


class CreateOrganization(Command):
    """Reserves the name alongside. The creator does not join by this."""

    organization_id: Token
    name: OrganizationName
    invite_hash: Hash
    created_by: Token
    at_ms: Millis


class RotateInvite(Command):
    organization_id: Token
    invite_hash: Hash
    by: Token
    at_ms: Millis


class AdmitMember(Command):
    organization_id: Token
    user_id: Token
    invite_hash: Hash
    at_ms: Millis


class JoinOrganization(Command):
    """The organisation admits the member alongside."""

    user_id: Token
    organization_id: Token
    invite_hash: Hash
    at_ms: Millis


class IssueKey(Command):
    """An API key that acts for `user_id` within `tenant`; only its hash is ever kept."""

    key_id: Token
    tenant: Token
    user_id: Token
    name: KeyName
    secret_hash: Hash
    at_ms: Millis


class RevokeKey(Command):
    """`by` is the user who asks; only the key's own user may."""

    key_id: Token
    by: Token
    at_ms: Millis


class EndSession(Command):
    """Signing out: what was issued for `session` is refused from now on; at `until_ms` it expires anyway."""

    user_id: Token
    session: Token
    until_ms: Millis
    at_ms: Millis


class UserRegistered(Event):
    user_id: UserId
    sealed: str
    username: NameId
    email: NameId | None
    at_ms: int


class OrganizationCreated(Event):
    organization_id: OrganizationId
    name: str
    invite_hash: str
    created_by: UserId
    at_ms: int


class InviteRotated(Event):
    organization_id: OrganizationId
    invite_hash: str
    at_ms: int


class MemberAdmitted(Event):
    organization_id: OrganizationId
    user_id: UserId
    at_ms: int


class OrganizationJoined(Event):
    user_id: UserId
    organization_id: OrganizationId
    at_ms: int


class KeyIssued(Event):
    key_id: KeyId
    tenant: str
    user_id: UserId
    name: str
    secret_hash: str
    at_ms: int


class KeyRevoked(Event):
    key_id: KeyId
    at_ms: int


class SessionEnded(Event):
    user_id: UserId
    session: str
    until_ms: int
    at_ms: int


class UserExists(Rejection):
    """This user id is taken."""


class UserIsUnknown(Unknown):
    """There is no such user."""


class OrganizationExists(Rejection):
    """This organisation id is taken."""


class OrganizationIsUnknown(Unknown):
    """There is no such organisation."""


class InviteIsWrong(Rejection):
    """This invite code opens no organisation."""


class NotTheOwner(Unknown):
    """There is no such thing, or it is not yours."""


class AlreadyMember(Rejection):
    """The user belongs to another organisation already; one at a time."""


class KeyExists(Rejection):
    """This key id is taken."""


class KeyIsUnknown(Unknown):
    """There is no such key."""


IdentityCommand = (
    RegisterUser
    | CreateOrganization
    | RotateInvite
    | AdmitMember
    | JoinOrganization
    | IssueKey
    | RevokeKey
    | EndSession
)
IdentityEvent = (
    UserRegistered
    | OrganizationCreated
    | InviteRotated
    | MemberAdmitted
    | OrganizationJoined
    | KeyIssued
    | KeyRevoked
    | SessionEnded
)
