"""Who is registered, who belongs where and which keys are good, as a list of examples."""

from msgspec.structs import replace

from core.messages.identity import (
    AdmitMember,
    AlreadyMember,
    CreateOrganization,
    EndSession,
    InviteIsWrong,
    InviteRotated,
    IssueKey,
    JoinOrganization,
    KeyExists,
    KeyId,
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
from core.messages.names import ReserveName, name_id
from handlers import identity
from tests.given import Scenario

given = Scenario(identity.decider)

ADA, BOB = UserId("usr_ada"), UserId("usr_bob")
ACME, OTHER = OrganizationId("org_acme"), OrganizationId("org_other")
KEY = KeyId("key_1")
INVITE, NEW_INVITE, SECRET = "a" * 64, "b" * 64, "c" * 64
USERNAME, EMAIL = name_id("username", "hash-of-ada"), name_id("email", "hash-of-her-address")

register = RegisterUser(user_id=ADA, sealed="s1", username=USERNAME, email=EMAIL, at_ms=1)
registered = UserRegistered(user_id=ADA, sealed="s1", username=USERNAME, email=EMAIL, at_ms=1)

create = CreateOrganization(organization_id=ACME, name=" ACME ", invite_hash=INVITE, created_by=ADA, at_ms=2)
created = OrganizationCreated(
    organization_id=ACME, name=" ACME ", invite_hash=INVITE, created_by=ADA, at_ms=2
)
rotate = RotateInvite(organization_id=ACME, invite_hash=NEW_INVITE, by=ADA, at_ms=3)
rotated = InviteRotated(organization_id=ACME, invite_hash=NEW_INVITE, at_ms=3)
admit = AdmitMember(organization_id=ACME, user_id=BOB, invite_hash=INVITE, at_ms=4)
admitted = MemberAdmitted(organization_id=ACME, user_id=BOB, at_ms=4)

join = JoinOrganization(user_id=ADA, organization_id=ACME, invite_hash=INVITE, at_ms=5)
joined = OrganizationJoined(user_id=ADA, organization_id=ACME, at_ms=5)

issue = IssueKey(key_id=KEY, tenant=ACME, user_id=ADA, name="ci", secret_hash=SECRET, at_ms=6)
issued = KeyIssued(key_id=KEY, tenant=ACME, user_id=ADA, name="ci", secret_hash=SECRET, at_ms=6)
revoke = RevokeKey(key_id=KEY, by=ADA, at_ms=7)
revoked = KeyRevoked(key_id=KEY, at_ms=7)

sign_out = EndSession(user_id=ADA, session="s-1", until_ms=1000, at_ms=10)
signed_out = SessionEnded(user_id=ADA, session="s-1", until_ms=1000, at_ms=10)


def test_a_user_registers_once() -> None:
    given().when(register).then(registered)
    given(registered).when(register).then_nothing()


def test_registering_again_may_seal_the_same_data_anew() -> None:
    given(registered).when(replace(register, sealed="s2", at_ms=9)).then_nothing()


def test_a_taken_user_id_is_not_given_to_somebody_else() -> None:
    given(registered).when(replace(register, username=name_id("username", "x"))).then_rejected(UserExists)
    given(registered).when(replace(register, email=None)).then_rejected(UserExists)
    given(created).when(replace(register, user_id=ACME)).then_rejected(UserExists)


def test_a_user_reserves_username_and_email_alongside() -> None:
    given().when(register).then_alongside(
        ReserveName(name_id=USERNAME, holder=ADA), ReserveName(name_id=EMAIL, holder=ADA)
    )
    given().when(replace(register, email=None)).then_alongside(ReserveName(name_id=USERNAME, holder=ADA))
    given(registered).when(register).then_alongside()


def test_an_organization_is_created_once() -> None:
    given().when(create).then(created)
    given(created).when(create).then_nothing()
    given(created, rotated).when(create).then_nothing()


def test_a_taken_organization_id_is_not_given_away() -> None:
    given(created).when(replace(create, name="Other")).then_rejected(OrganizationExists)
    given(created).when(replace(create, created_by=BOB)).then_rejected(OrganizationExists)
    given(registered).when(replace(create, organization_id=ADA)).then_rejected(OrganizationExists)


def test_an_organization_reserves_its_name_however_it_is_spelled() -> None:
    acme = ReserveName(name_id=name_id("organization", "acme"), holder=ACME)
    given().when(create).then_alongside(acme)
    given().when(replace(create, name="Acme")).then_alongside(acme)
    given(created).when(create).then_alongside()


def test_the_creator_rotates_the_invite() -> None:
    given(created).when(rotate).then(rotated)
    given(created, rotated).when(rotate).then_nothing()


def test_nobody_else_rotates_the_invite() -> None:
    given(created, admitted).when(replace(rotate, by=BOB)).then_rejected(NotTheOwner)
    given().when(rotate).then_rejected(OrganizationIsUnknown)


def test_the_right_invite_admits_a_member() -> None:
    given(created).when(admit).then(admitted)
    given(created).when(replace(admit, invite_hash=NEW_INVITE)).then_rejected(InviteIsWrong)
    given().when(admit).then_rejected(OrganizationIsUnknown)


def test_an_old_invite_admits_nobody_new_and_expels_nobody() -> None:
    given(created, rotated).when(admit).then_rejected(InviteIsWrong)
    given(created, admitted, rotated).when(admit).then_nothing()


def test_a_user_joins_one_organization() -> None:
    given(registered).when(join).then(joined)
    given(registered, joined).when(join).then_nothing()
    given(registered, joined).when(replace(join, organization_id=OTHER)).then_rejected(AlreadyMember)
    given().when(join).then_rejected(UserIsUnknown)


def test_the_organization_admits_alongside_joining() -> None:
    admit_ada = AdmitMember(organization_id=ACME, user_id=ADA, invite_hash=INVITE, at_ms=5)
    given(registered).when(join).then_alongside(admit_ada)
    given(registered, joined).when(join).then_alongside()


def test_a_key_is_issued_once() -> None:
    given().when(issue).then(issued)
    given(issued).when(replace(issue, at_ms=9)).then_nothing()
    given(issued).when(replace(issue, secret_hash=INVITE)).then_rejected(KeyExists)
    given(registered).when(replace(issue, key_id=ADA)).then_rejected(KeyExists)


def test_a_revoked_key_stays_revoked() -> None:
    given(issued).when(revoke).then(revoked)
    given(issued, revoked).when(revoke).then_nothing()
    given(issued, revoked).when(issue).then_nothing()


def test_nobody_learns_of_somebody_elses_key() -> None:
    given(issued).when(replace(revoke, by=BOB)).then_rejected(KeyIsUnknown)
    given().when(revoke).then_rejected(KeyIsUnknown)


def test_a_session_ends_once() -> None:
    given(registered).when(sign_out).then(signed_out)
    given(registered, signed_out).when(sign_out).then_nothing()
    given().when(sign_out).then_rejected(UserIsUnknown)


def test_a_session_that_has_expired_need_not_end() -> None:
    given(registered).when(replace(sign_out, at_ms=1000)).then_nothing()


def test_ended_sessions_are_forgotten_when_they_would_have_expired() -> None:
    later = SessionEnded(user_id=ADA, session="s-2", until_ms=3000, at_ms=1000)
    user = identity.decider.fold([registered, signed_out, later])
    assert isinstance(user, identity.User)
    assert user.ended_sessions == {"s-2": 3000}


def test_nothing_need_be_done_alongside_the_rest() -> None:
    given(created).when(rotate).then_alongside()
    given(created).when(admit).then_alongside()
    given().when(issue).then_alongside()
