//! What every operation of the store does, on any engine.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::{
    Engine,
    scene::{
        Person, START, at, attempt, create, named, new_organisation, new_user_id, now, organisation,
        totp_code, username, with_email,
    },
};
use crate::{
    error::{Error, Result},
    store::{AuditFilter, AuditSpan, Checkpoint, Page, SortKey, Sorting, Store, UserFilter},
};
use countersign_core::{
    Action, ClientId, Handle, Method, OrganisationId, Refusal, Role, User, UserId,
    attempt::Target,
    client::{NewClient, StoredSecret},
    event::{ChainHead, Event, Subject},
    keyring::{KeyId, TAG_BYTES, Tag},
    profile::{DisplayName, Email, matching_key},
    role::Roles,
    user::{NewUser, Status, UserPatch},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::HashMap;
use uuid::Uuid;

/// An organisation called acme.
async fn acme(engine: &impl Engine) -> (Store, OrganisationId) {
    let store = engine.store();
    let acme = organisation(&store, "acme").await;
    (store, acme)
}

async fn update(store: &Store, user: &User, patch: UserPatch) -> Result<()> {
    store.change(user.organisation, user.id, move |user| user.update(patch.clone(), &at(1))).await
}

async fn remove(store: &Store, organisation: OrganisationId, user: UserId) -> Result<()> {
    store.remove(organisation, user, |organisation, user| organisation.dismiss(user, &at(2))).await
}

async fn find(store: &Store, organisation: OrganisationId, handle: &str) -> Option<UserId> {
    store.find(organisation, &Handle::parse("user", handle).unwrap()).await.unwrap()
}

/// Reads a list to its end in pages of three.
async fn read_all<T>(mut read: impl AsyncFnMut(Option<String>) -> Result<Page<T>>) -> Vec<T> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let mut page = read(after).await.unwrap();
        assert!(page.items.len() <= 3);
        all.append(&mut page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn names(store: &Store, organisation: OrganisationId, filter: UserFilter) -> Vec<String> {
    let list = read_all(async |after| store.users(organisation, &filter, after.as_deref(), 3).await);
    list.await.into_iter().map(|user| user.username.to_string()).collect()
}

async fn events(store: &Store, organisation: OrganisationId, filter: AuditFilter) -> Vec<Event> {
    read_all(async |after| store.audit(organisation, &filter, after.as_deref(), 3).await).await
}

/// Twelve people; `change` does something to all but every third.
async fn twelve_people(
    store: &Store,
    organisation: OrganisationId,
    change: impl Fn(&mut User) -> Result<(), Refusal> + Clone + Send + 'static,
) {
    for number in 0..12 {
        let user = create(store, organisation, named(&format!("user-{number:02}"))).await.unwrap();
        if number % 3 != 0 {
            store.change(organisation, user.id, change.clone()).await.unwrap();
        }
    }
}

const TOUCHED: [&str; 8] =
    ["user-01", "user-02", "user-04", "user-05", "user-07", "user-08", "user-10", "user-11"];
const UNTOUCHED: [&str; 4] = ["user-00", "user-03", "user-06", "user-09"];

pub(super) async fn a_person_is_found_by_every_handle(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;

    let user = create(&store, acme, with_email("Ada", "Ada@Example.com")).await.unwrap();

    assert_eq!(user.number, 1000);
    assert_eq!(store.user(acme, user.id).await.unwrap().as_ref(), Some(&user));
    assert_eq!(find(&store, acme, &user.id.to_string()).await, Some(user.id));
    assert_eq!(find(&store, acme, "1000").await, Some(user.id));
    assert_eq!(find(&store, acme, "ADA").await, Some(user.id));
    assert_eq!(store.find(acme, &Handle::email("ada@example.COM")).await.unwrap(), Some(user.id));
    assert_eq!(find(&store, acme, "1001").await, None);
    assert_eq!(store.find(acme, &Handle::Number(u64::MAX)).await.unwrap(), None);
    assert_eq!(find(&store, acme, "grace").await, None);
}

pub(super) async fn a_person_is_changed_by_every_handle(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let user = create(&store, acme, with_email("Ada", "Ada@Example.com")).await.unwrap();
    let handles = [
        Handle::Id(user.id),
        Handle::Number(1000),
        Handle::Username("ada".into()),
        Handle::email("ada@example.com"),
    ];

    for (turn, handle) in handles.into_iter().enumerate() {
        let patch = UserPatch { mfa_enabled: Some(turn % 2 == 0), ..UserPatch::default() };
        let elsewhere = store.change_by(other, handle.clone(), |_| Ok(())).await;
        store.change_by(acme, handle, move |user| user.update(patch.clone(), &at(1))).await.unwrap();

        assert!(matches!(elsewhere, Err(Error::NotFound("user"))), "{elsewhere:?}");
    }
    assert_eq!(store.user(acme, user.id).await.unwrap().unwrap().audit_head.seq, user.audit_head.seq + 4);
    let nobody = store.change_by(acme, Handle::Username("grace".into()), |_| Ok(())).await;
    assert!(matches!(nobody, Err(Error::NotFound("user"))), "{nobody:?}");
}

pub(super) async fn a_person_is_not_found_in_another_organisation(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let user = create(&store, acme, with_email("ada", "ada@example.com")).await.unwrap();

    for handle in [&user.id.to_string(), "1000", "ada"] {
        assert_eq!(find(&store, other, handle).await, None, "{handle}");
    }
    assert_eq!(store.find(other, &Handle::email("ada@example.com")).await.unwrap(), None);
    assert_eq!(store.user(other, user.id).await.unwrap(), None);
    assert!(store.users(other, &UserFilter::All, None, 10).await.unwrap().items.is_empty());
    let changed =
        store.change(other, user.id, |_| -> Result<(), Refusal> { unreachable!("not theirs") }).await;
    assert!(matches!(changed, Err(Error::NotFound("user"))), "{changed:?}");
    assert!(matches!(remove(&store, other, user.id).await, Err(Error::NotFound("user"))));
    assert_eq!(
        events(&store, other, AuditFilter { user: Some(user.id), ..AuditFilter::default() }).await,
        []
    );
    assert_eq!(store.user(acme, user.id).await.unwrap(), Some(user));
    let nowhere = OrganisationId::from_uuid(Uuid::from_u128(9));
    assert!(matches!(create(&store, nowhere, named("ada")).await, Err(Error::NotFound("organisation"))));
}

pub(super) async fn what_is_taken_is_named_and_nothing_is_created(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, with_email("ada", "ada@example.com")).await.unwrap();
    let before = store.audit_rows(0, 100).await.unwrap();

    let username = create(&store, acme, named("ADA")).await;
    let email = create(&store, acme, with_email("grace", "ADA@example.com")).await;
    let id = store.create(acme, move |acme| acme.admit(user.id, named("grace"), &now())).await;

    assert!(matches!(username, Err(Error::Conflict("username"))), "{username:?}");
    assert!(matches!(email, Err(Error::Conflict("email"))), "{email:?}");
    assert!(matches!(id, Err(Error::Conflict("id"))), "{id:?}");
    assert_eq!(store.audit_rows(0, 100).await.unwrap(), before);
    assert_eq!(store.organisation(acme).await.unwrap().unwrap().next_number, 1001);
    assert_eq!(create(&store, acme, named("grace")).await.unwrap().number, 1001);
}

pub(super) async fn another_organisation_may_use_the_same_names(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let ours = create(&store, acme, with_email("ada", "ada@example.com")).await.unwrap();

    let theirs = create(&store, other, with_email("ada", "ada@example.com")).await.unwrap();

    assert_eq!(find(&store, acme, "ada").await, Some(ours.id));
    assert_eq!(find(&store, other, "ada").await, Some(theirs.id));
    assert_eq!((ours.number, theirs.number), (1000, 1000));
}

pub(super) async fn a_rename_to_a_taken_name_changes_nothing(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    create(&store, acme, named("ada")).await.unwrap();
    let grace = create(&store, acme, named("grace")).await.unwrap();

    let taken =
        update(&store, &grace, UserPatch { username: Some(username("Ada")), ..UserPatch::default() }).await;
    let free = UserPatch { username: Some(username("Amazing Grace")), ..UserPatch::default() };
    assert!(matches!(taken, Err(Error::Conflict("username"))), "{taken:?}");
    assert_eq!(store.user(acme, grace.id).await.unwrap().as_ref(), Some(&grace));

    update(&store, &grace, free).await.unwrap();
    assert_eq!(find(&store, acme, "amazing grace").await, Some(grace.id));
    assert_eq!(find(&store, acme, "grace").await, None);
}

pub(super) async fn a_refused_change_leaves_nothing_behind(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();

    let refused = store
        .change(acme, user.id, |user| -> Result<(), Refusal> {
            user.update(UserPatch { mfa_enabled: Some(true), ..UserPatch::default() }, &at(1))?;
            Err(Refusal::NotBySelf)
        })
        .await;

    assert!(matches!(refused, Err(Error::Refused(Refusal::NotBySelf))), "{refused:?}");
    assert_eq!(store.user(acme, user.id).await.unwrap(), Some(user));
}

pub(super) async fn a_change_without_an_event_writes_nothing(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();
    let before = store.audit_rows(0, 100).await.unwrap();

    let answer = store.change(acme, user.id, |user| Ok(user.number)).await.unwrap();

    assert_eq!(answer, user.number);
    assert_eq!(store.user(acme, user.id).await.unwrap(), Some(user));
    assert_eq!(store.audit_rows(0, 100).await.unwrap(), before);
}

pub(super) async fn a_document_and_its_events_agree(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Person::create(&store, acme, "ada").await;

    for code in [totp_code(&now()), "000000".into(), totp_code(&now())] {
        person.verify(attempt(&code, Target::AnyOtp)).await;
    }

    let user = person.document().await;
    let rows = store.audit_rows(0, 100).await.unwrap();
    let head = rows
        .iter()
        .filter(|row| row.subject == user.id.uuid())
        .fold(ChainHead::default(), |head, row| head.next(&row.body));
    assert_eq!(head, user.audit_head);
}

pub(super) async fn everybody_is_listed_by_number(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    twelve_people(&store, acme, |_| Ok(())).await;

    let listed = names(&store, acme, UserFilter::All).await;

    assert_eq!(listed, (0..12).map(|number| format!("user-{number:02}")).collect::<Vec<_>>());
    assert_eq!(store.users(acme, &UserFilter::All, None, 12).await.unwrap().next, None);
    assert_eq!(store.users(acme, &UserFilter::All, None, 11).await.unwrap().items.len(), 11);
}

pub(super) async fn people_are_listed_by_the_beginning_of_their_username(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    for name in
        ["b", "ada 9", "ADA 1", "ad", "ada", "Ada\u{10FFFD}", "ada 3", "ada 2", "ada 4", "ada 5", "ae"]
    {
        create(&store, acme, named(name)).await.unwrap();
        create(&store, other, named(name)).await.unwrap();
    }

    let listed = names(&store, acme, UserFilter::UsernamePrefix("ada".into())).await;

    assert_eq!(listed, ["ada", "ADA 1", "ada 2", "ada 3", "ada 4", "ada 5", "ada 9", "Ada\u{10FFFD}"]);
    assert!(names(&store, acme, UserFilter::UsernamePrefix("adb".into())).await.is_empty());
    assert_eq!(names(&store, acme, UserFilter::UsernamePrefix(String::new())).await.len(), 11);
}

pub(super) async fn people_are_listed_by_status(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let disable = UserPatch { status: Some(Status::Disabled), ..UserPatch::default() };
    twelve_people(&store, acme, move |user| user.update(disable.clone(), &at(1))).await;

    assert_eq!(names(&store, acme, UserFilter::Status(Status::Disabled)).await, TOUCHED);
    assert_eq!(names(&store, acme, UserFilter::Status(Status::Active)).await, UNTOUCHED);
}

pub(super) async fn people_are_listed_by_their_second_step(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let switch_on = UserPatch { mfa_enabled: Some(true), ..UserPatch::default() };
    twelve_people(&store, acme, move |user| user.update(switch_on.clone(), &at(1))).await;

    assert_eq!(names(&store, acme, UserFilter::MfaEnabled(true)).await, TOUCHED);
    assert_eq!(names(&store, acme, UserFilter::MfaEnabled(false)).await, UNTOUCHED);
}

pub(super) async fn people_are_listed_by_their_highest_role(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let promote =
        UserPatch { roles: Some(Roles::new([Role::Auditor, Role::Helpdesk])), ..UserPatch::default() };
    twelve_people(&store, acme, move |user| user.update(promote.clone(), &at(1))).await;

    assert_eq!(names(&store, acme, UserFilter::Role(Role::Helpdesk)).await, TOUCHED);
    assert_eq!(names(&store, acme, UserFilter::Role(Role::Member)).await, UNTOUCHED);
    assert!(names(&store, acme, UserFilter::Role(Role::Auditor)).await.is_empty());
}

pub(super) async fn people_are_listed_by_locked_method(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let rule = countersign_core::Policy::default().locks;
    twelve_people(&store, acme, move |user| {
        let method = if user.number % 2 == 0 { Method::Token } else { Method::Recovery };
        for _ in 0..rule.threshold {
            user.locks.fail(method, &rule, now().now);
        }
        user.update(UserPatch { mfa_enabled: Some(true), ..UserPatch::default() }, &at(1))
    })
    .await;

    let token = names(&store, acme, UserFilter::Locked(Method::Token)).await;
    let recovery = names(&store, acme, UserFilter::Locked(Method::Recovery)).await;

    assert_eq!(token, ["user-02", "user-04", "user-08", "user-10"]);
    assert_eq!(recovery, ["user-01", "user-05", "user-07", "user-11"]);
    assert!(names(&store, acme, UserFilter::Locked(Method::Sms)).await.is_empty());
    let user = find(&store, acme, "user-02").await.unwrap();
    store.change(acme, user, |user| user.unlock(&Method::ALL, &at(2)).map(drop)).await.unwrap();
    assert_eq!(
        names(&store, acme, UserFilter::Locked(Method::Token)).await,
        ["user-04", "user-08", "user-10"]
    );
}

pub(super) async fn a_person_is_listed_by_their_exact_username(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    twelve_people(&store, acme, |_| Ok(())).await;

    assert_eq!(names(&store, acme, UserFilter::Username("user-07".into())).await, ["user-07"]);
    assert!(names(&store, acme, UserFilter::Username("user-0".into())).await.is_empty());
}

/// Seven people whose addresses sort otherwise than they were created, one of them without any.
async fn addressed_people(store: &Store, organisation: OrganisationId) {
    for (name, email) in [("eve", "mail@z.example"), ("bob", "b@Acme.example"), ("ann", "x.ACME@example.com")]
    {
        create(store, organisation, with_email(name, email)).await.unwrap();
    }
    create(store, organisation, named("dan")).await.unwrap();
    for (name, email) in [("fay", "a@acme.example"), ("cat", "c_%acme@example.com"), ("gus", "straße@x.de")]
    {
        create(store, organisation, with_email(name, email)).await.unwrap();
    }
}

async fn rename(store: &Store, organisation: OrganisationId, username: &str, given: &str, family: &str) {
    let user = find(store, organisation, username).await.unwrap();
    let name = |text: &str| Some(Some(DisplayName::parse("name", text).unwrap()));
    let patch = UserPatch { given_name: name(given), family_name: name(family), ..UserPatch::default() };
    store.change(organisation, user, move |user| user.update(patch.clone(), &at(1))).await.unwrap();
}

pub(super) async fn people_are_searched_by_a_part_of_their_names(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    addressed_people(&store, acme).await;
    rename(&store, acme, "dan", "Bertil", "Öst").await;
    let found = async |part: &str| names(&store, acme, UserFilter::NameContains(matching_key(part))).await;

    assert_eq!(found("ÖS").await, ["dan"]);
    assert_eq!(found("b").await, ["bob", "dan"]);
    rename(&store, acme, "dan", "Cyril", "West").await;
    assert!(found("ös").await.is_empty());
    for (filter, expected) in [
        (UserFilter::EmailContains("west".into()), &[][..]),
        (UserFilter::GivenNameContains("west".into()), &[]),
        (UserFilter::FamilyNameContains("west".into()), &["dan"]),
        (UserFilter::GivenNameContains("yri".into()), &["dan"]),
    ] {
        assert_eq!(names(&store, acme, filter.clone()).await, expected, "{filter:?}");
        assert_eq!(page(&store, acme, &filter, 0, 9).await.1, expected.len() as u64, "{filter:?}");
    }
    let dan = find(&store, acme, "dan").await.unwrap();
    assert_eq!(names(&store, acme, UserFilter::Id(dan)).await, ["dan"]);
}

pub(super) async fn people_are_searched_by_a_part_of_their_address(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    addressed_people(&store, acme).await;
    addressed_people(&store, other).await;

    for filter in [UserFilter::EmailContains, UserFilter::NameContains] {
        let found = async |part: &str| names(&store, acme, filter(matching_key(part))).await;

        assert_eq!(found("acme").await, ["bob", "ann", "fay", "cat"]);
        assert_eq!(found("STRASSE").await, ["gus"]);
        assert_eq!(found("%").await, ["cat"]);
        assert_eq!(found("@acme.").await, ["bob", "fay"]);
        assert!(found("nobody").await.is_empty());
    }
}

async fn page(
    store: &Store,
    organisation: OrganisationId,
    filter: &UserFilter,
    offset: u64,
    limit: usize,
) -> (Vec<String>, u64) {
    let (people, total) = store.people(organisation, filter, offset, limit).await.unwrap();
    (people.iter().map(|user| user.username.to_string()).collect(), total)
}

pub(super) async fn people_are_counted_and_listed_from_an_offset(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    twelve_people(&store, acme, |_| Ok(())).await;
    let listed = async |offset, limit| page(&store, acme, &UserFilter::All, offset, limit).await;

    assert_eq!(listed(0, 2).await, (vec!["user-00".to_owned(), "user-01".to_owned()], 12));
    assert_eq!(listed(10, 5).await, (vec!["user-10".to_owned(), "user-11".to_owned()], 12));
    assert_eq!(listed(12, 5).await, (vec![], 12));
    assert_eq!(listed(u64::MAX, 5).await, (vec![], 12));
    let exact = UserFilter::Username("user-11".into());
    assert_eq!(page(&store, acme, &exact, 0, 5).await, (vec!["user-11".to_owned()], 1));
    assert_eq!(page(&store, acme, &exact, 1, 5).await, (vec![], 1));
    for filter in [
        UserFilter::Status(Status::Disabled),
        UserFilter::MfaEnabled(true),
        UserFilter::Role(Role::Helpdesk),
        UserFilter::Locked(Method::Token),
        UserFilter::UsernamePrefix("user-1".into()),
    ] {
        let refused = store.people(acme, &filter, 0, 5).await;
        assert!(
            matches!(refused, Err(Error::Refused(Refusal::Invalid(it))) if it.field == "filter"),
            "{filter:?}"
        );
    }
}

pub(super) async fn everybody_is_counted_as_they_come_and_go(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let everybody = async |organisation| page(&store, organisation, &UserFilter::All, 0, 100).await;
    assert_eq!(everybody(acme).await, (vec![], 0));

    let ada = create(&store, acme, named("ada")).await.unwrap();
    create(&store, acme, named("bob")).await.unwrap();
    assert!(create(&store, acme, named("BOB")).await.is_err());
    create(&store, other, named("cat")).await.unwrap();
    remove(&store, acme, ada.id).await.unwrap();
    assert!(remove(&store, acme, ada.id).await.is_err());

    assert_eq!(everybody(acme).await, (vec!["bob".to_owned()], 1));
    assert_eq!(everybody(other).await, (vec!["cat".to_owned()], 1));
    let nowhere = OrganisationId::from_uuid(Uuid::from_u128(9));
    assert_eq!(everybody(nowhere).await, (vec![], 0));
}

async fn sorted(
    store: &Store,
    organisation: OrganisationId,
    filter: &UserFilter,
    sorting: Sorting,
    offset: u64,
    limit: usize,
) -> (Vec<String>, u64) {
    let page = store.people_sorted(organisation, filter, sorting, offset, limit).await;
    let (people, total) = page.unwrap();
    (people.iter().map(|user| user.username.to_string()).collect(), total)
}

pub(super) async fn a_searched_list_is_sorted_as_asked(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    addressed_people(&store, acme).await;
    addressed_people(&store, organisation(&store, "other").await).await;
    rename(&store, acme, "bob", "Bertil", "Öst").await;
    rename(&store, acme, "ann", "Ada", "ÖSTERBERG").await;
    let found = UserFilter::EmailContains("acme".into());

    let by = |by, descending| Sorting { by, descending };
    let all = async |sorting| sorted(&store, acme, &UserFilter::All, sorting, 0, 100).await;

    assert_eq!(all(by(SortKey::Email, false)).await.0, ["dan", "fay", "bob", "cat", "eve", "gus", "ann"]);
    assert_eq!(all(by(SortKey::Number, true)).await.0, ["gus", "cat", "fay", "dan", "ann", "bob", "eve"]);
    // Who has no name comes first, by number.
    let none_first = ["eve", "dan", "fay", "cat", "gus"];
    assert_eq!(all(by(SortKey::GivenName, false)).await.0, [&none_first[..], &["ann", "bob"]].concat());
    assert_eq!(all(by(SortKey::FamilyName, false)).await.0, [&none_first[..], &["bob", "ann"]].concat());
    assert_eq!(all(by(SortKey::FamilyName, true)).await.0[..3], ["ann", "bob", "gus"]);
    assert_eq!(all(by(SortKey::Email, true)).await.1, 7);
    assert_eq!(
        sorted(&store, acme, &found, by(SortKey::Email, true), 1, 2).await,
        (vec!["cat".to_owned(), "bob".to_owned()], 4)
    );
}

/// Describes people with names of few syllables, so that many have a part in common.
fn alike(number: usize, rng: &mut StdRng) -> NewUser {
    const SYLLABLES: [&str; 8] = ["an", "na", "ö", "ki", "an", "zz", "字", "o'"];
    // Those with the rare parts stand at the end.
    let most = if number < 600 { 2 } else { 4 };
    let mut name = || -> String {
        (0..rng.random_range(1..=most)).map(|_| SYLLABLES[rng.random_range(0..SYLLABLES.len())]).collect()
    };
    let (given, family) = (name(), name());
    NewUser {
        given_name: (!number.is_multiple_of(5)).then(|| DisplayName::parse("name", &given).unwrap()),
        family_name: (!number.is_multiple_of(4)).then(|| DisplayName::parse("name", &family).unwrap()),
        ..with_email(&format!("user-{number}"), &format!("{number}.x@{}.example", number % 7))
    }
}

/// More people than a search looks at one by one: whoever stands behind them is found by the parts of their names.
pub(super) async fn many_people_are_searched_as_if_one_by_one(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let mut rng = StdRng::seed_from_u64(41);
    let mut everybody = Vec::new();
    for number in 0..660 {
        let new = alike(number, &mut rng);
        if number.is_multiple_of(16) {
            create(&store, other, new.clone()).await.unwrap();
        }
        let user = create(&store, acme, new).await.unwrap();
        // Some go, and some get other names.
        match number % 22 {
            0 => {
                remove(&store, acme, user.id).await.unwrap();
                continue;
            }
            11 => rename(&store, acme, user.username.as_str(), "Renate", "Ranke").await,
            _ => {}
        }
        everybody.push(store.user(acme, user.id).await.unwrap().unwrap());
    }

    for part in ["an", "z", "zzö", "字", "o'o'", "renate", "6.x@3", "example", "%"] {
        for filter in [
            UserFilter::EmailContains,
            UserFilter::GivenNameContains,
            UserFilter::FamilyNameContains,
            UserFilter::NameContains,
        ] {
            compare_search(&store, acme, &everybody, &filter(part.to_owned())).await;
        }
    }
    for offset in [0, 1, 100, everybody.len() - 5, everybody.len()] {
        let expected: Vec<_> =
            everybody.iter().skip(offset).take(4).map(|user| user.username.to_string()).collect();
        let found = page(&store, acme, &UserFilter::All, offset as u64, 4).await;
        assert_eq!(found, (expected, everybody.len() as u64));
    }
}

/// Compares what a search finds, in each way it can be asked for, with those of all people who are to be found.
async fn compare_search(store: &Store, acme: OrganisationId, everybody: &[User], filter: &UserFilter) {
    let mut expected: Vec<_> = everybody.iter().filter(|user| has(user, filter)).collect();
    let total = expected.len() as u64;
    let names = |people: &[&User], offset, limit| -> Vec<String> {
        people.iter().skip(offset).take(limit).map(|user| user.username.to_string()).collect()
    };

    assert_eq!(searched(store, acme, filter).await, names(&expected, 0, 1000), "{filter:?}");
    assert_eq!(page(store, acme, filter, 0, 1000).await, (names(&expected, 0, 1000), total), "{filter:?}");
    assert_eq!(page(store, acme, filter, 7, 9).await.0, names(&expected, 7, 9), "{filter:?}");
    expected.sort_by_key(|user| (user.family_name.as_ref().map(DisplayName::key), user.number));
    expected.reverse();
    let sorting = Sorting { by: SortKey::FamilyName, descending: true };
    let found = sorted(store, acme, filter, sorting, 3, 5).await;
    assert_eq!(found, (names(&expected, 3, 5), total), "{filter:?}");
}

/// Reads a search to its end. Its pages may be short.
async fn searched(store: &Store, organisation: OrganisationId, filter: &UserFilter) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.users(organisation, filter, after.as_deref(), 60).await.unwrap();
        all.extend(page.items.iter().map(|user| user.username.to_string()));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Tells whether a search is to find somebody, as plainly as can be.
fn has(user: &User, filter: &UserFilter) -> bool {
    let (email, given, family) = (
        user.email.as_ref().map(Email::key),
        user.given_name.as_ref().map(DisplayName::key),
        user.family_name.as_ref().map(DisplayName::key),
    );
    let (names, part) = match filter {
        UserFilter::EmailContains(part) => (vec![email], part),
        UserFilter::GivenNameContains(part) => (vec![given], part),
        UserFilter::FamilyNameContains(part) => (vec![family], part),
        UserFilter::NameContains(part) => (vec![email, given, family], part),
        other => panic!("{other:?} is no search"),
    };
    names.into_iter().flatten().any(|name| name.contains(part.as_str()))
}

pub(super) async fn a_list_with_an_order_of_its_own_is_not_sorted(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let sorting = Sorting { by: SortKey::Email, descending: false };

    let refused = store.people_sorted(acme, &UserFilter::Role(Role::Admin), sorting, 0, 10).await;

    assert!(
        matches!(&refused, Err(Error::Refused(Refusal::Invalid(invalid))) if invalid.field == "sort"),
        "{refused:?}"
    );
}

pub(super) async fn owners_are_found_in_every_organisation(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let with = |name: &str, role| NewUser { roles: Roles::new([role]), ..named(name) };
    for (organisation, name, role) in
        [(acme, "ada", Role::Owner), (acme, "bob", Role::Admin), (other, "cat", Role::Owner)]
    {
        create(&store, organisation, with(name, role)).await.unwrap();
    }
    let owners = async || -> Vec<String> {
        let (owners, total) = store.owners(&UserFilter::All, None, 0, 10).await.unwrap();
        assert_eq!(owners.len() as u64, total);
        owners.iter().map(|user| user.username.to_string()).collect()
    };
    assert_eq!(owners().await, ["ada", "cat"]);

    let ada = find(&store, acme, "ada").await.unwrap();
    let demote = UserPatch { roles: Some(Roles::new([Role::Admin])), ..UserPatch::default() };
    store.change(acme, ada, move |user| user.update(demote.clone(), &at(1))).await.unwrap();

    assert_eq!(owners().await, ["cat"]);
}

pub(super) async fn owners_are_searched_and_sorted(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    for (organisation, name) in [(acme, "zoe"), (other, "ann"), (acme, "eve"), (other, "zed")] {
        let email = format!("{name}@example.com");
        let new = NewUser { roles: Roles::new([Role::Owner]), ..with_email(name, &email) };
        create(&store, organisation, new).await.unwrap();
    }
    let sorting = Sorting { by: SortKey::Email, descending: true };
    let found = UserFilter::EmailContains("z".into());

    let (page, total) = store.owners(&UserFilter::All, Some(sorting), 1, 2).await.unwrap();
    let (searched, of_all) = store.owners(&found, None, 0, 1).await.unwrap();

    let names = |people: &[User]| people.iter().map(|user| user.username.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&page), total), (vec!["zed".to_owned(), "eve".to_owned()], 4));
    assert_eq!((names(&searched), of_all), (vec!["zoe".to_owned()], 2));
    let one = store.owners(&UserFilter::Id(page[0].id), None, 0, 10).await.unwrap();
    assert_eq!((names(&one.0), one.1), (vec!["zed".to_owned()], 1));
}

pub(super) async fn an_address_is_found_in_every_organisation(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let here = create(&store, acme, with_email("ada", "Ada@example.com")).await.unwrap().id;
    let there = create(&store, other, with_email("countess", "ada@EXAMPLE.com")).await.unwrap().id;
    create(&store, other, with_email("bob", "bob@example.com")).await.unwrap();

    let mut found = store.find_anywhere("ada@example.com").await.unwrap();
    found.sort_by_key(|(organisation, _)| *organisation != acme);

    assert_eq!(found, [(acme, here), (other, there)]);
    assert!(store.find_anywhere("ada").await.unwrap().is_empty());
    assert_eq!(store.organisation_of_user(there).await.unwrap(), Some(other));
    assert_eq!(store.organisation_of_user(new_user_id()).await.unwrap(), None);
}

pub(super) async fn a_cursor_that_is_not_of_this_list_is_refused(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    twelve_people(&store, acme, |_| Ok(())).await;
    let people = store.users(acme, &UserFilter::All, None, 3).await.unwrap().next.unwrap();
    let trail = store.audit(acme, &AuditFilter::default(), None, 3).await.unwrap().next.unwrap();
    let prefix = UserFilter::UsernamePrefix("user".into());

    for after in ["", "!", "AAAA", "e30", &trail] {
        let list = store.users(acme, &UserFilter::All, Some(after), 3).await;
        assert!(is_invalid_after(&list), "{after}: {list:?}");
    }
    assert!(is_invalid_after(&store.users(acme, &prefix, Some(&people), 3).await));
    assert!(is_invalid_after(&store.audit(acme, &AuditFilter::default(), Some(&people), 3).await));
    assert!(is_invalid_after(&store.organisations(Some(&people), 3).await));
    assert!(is_invalid_after(&store.claimed_heads(Some(&people), 3).await));
}

fn is_invalid_after<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Refused(Refusal::Invalid(invalid))) if invalid.field == "after")
}

pub(super) async fn a_removed_person_is_gone_and_their_events_stay(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, with_email("ada", "ada@example.com")).await.unwrap();
    let theirs = AuditFilter { user: Some(user.id), ..AuditFilter::default() };
    let before = events(&store, acme, theirs.clone()).await;

    remove(&store, acme, user.id).await.unwrap();

    assert_eq!(store.user(acme, user.id).await.unwrap(), None);
    assert_eq!(find(&store, acme, "ada").await, None);
    assert!(matches!(remove(&store, acme, user.id).await, Err(Error::NotFound("user"))));
    assert_eq!(events(&store, acme, theirs).await, before);
    let deleted = AuditFilter { action: Some(Action::UserDeleted), ..AuditFilter::default() };
    let deleted = events(&store, acme, deleted).await;
    assert_eq!(deleted[0].details["hash"], user.audit_head.hash.to_string());
    let again = create(&store, acme, with_email("ada", "ada@example.com")).await.unwrap();
    assert_eq!(again.number, 1001);
}

pub(super) async fn a_refused_removal_removes_nobody(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();

    let refused = store.remove(acme, user.id, |_, _| Err(Refusal::LastOwner)).await;

    assert!(matches!(refused, Err(Error::Refused(Refusal::LastOwner))), "{refused:?}");
    assert_eq!(store.user(acme, user.id).await.unwrap(), Some(user));
}

fn stored_secret() -> StoredSecret {
    StoredSecret { tag: Tag { key: KeyId(1), bytes: [0; TAG_BYTES] }, created_at: START, expires_at: None }
}

async fn add_client(store: &Store, organisation: OrganisationId, client: ClientId) -> Result<()> {
    store
        .change_organisation(organisation, move |organisation| {
            let name = DisplayName::parse("name", "vpn")?;
            let secret = Some(stored_secret());
            let new = NewClient { name, scopes: Default::default(), secret, keys: Vec::new() };
            organisation.add_client(client, new, &at(1))
        })
        .await
}

pub(super) async fn an_organisation_is_found_by_id_slug_and_client(engine: impl Engine) {
    let store = engine.store();
    let made = store.create_organisation(new_organisation("ACME")).await.unwrap();
    let client = ClientId::from_uuid(Uuid::from_u128(7));
    add_client(&store, made.id, client).await.unwrap();

    check_organisation(&store, made.id, client).await;
    // Now from the database, each look-up for itself.
    let mut engine = engine;
    for look_up in 0..3 {
        engine = engine.reopen().await;
        let store = engine.store();
        let found = match look_up {
            0 => store.organisation(made.id).await,
            1 => store.organisation_by_slug("acme").await,
            _ => store.organisation_of_client(client).await,
        };
        assert_eq!(found.unwrap().map(|organisation| organisation.id), Some(made.id));
        check_organisation(&store, made.id, client).await;
    }
}

async fn check_organisation(store: &Store, id: OrganisationId, client: ClientId) {
    let found = store.organisation(id).await.unwrap();

    assert_eq!(found.as_ref().map(|organisation| organisation.id), Some(id));
    assert_eq!(store.organisation_by_slug("acme").await.unwrap(), found);
    assert_eq!(store.organisation_of_client(client).await.unwrap(), found);
    assert_eq!(store.organisation_by_slug("ACME").await.unwrap(), None);
    assert_eq!(store.organisation(OrganisationId::from_uuid(Uuid::nil())).await.unwrap(), None);
    assert_eq!(store.organisation_of_client(ClientId::from_uuid(Uuid::nil())).await.unwrap(), None);
}

pub(super) async fn what_is_taken_by_an_organisation_is_named(engine: impl Engine) {
    let store = engine.store();
    let acme = store.create_organisation(new_organisation("acme")).await.unwrap();
    let mut same_id = new_organisation("other");
    same_id.id = acme.id;

    let slug = store.create_organisation(new_organisation("Acme")).await;
    let id = store.create_organisation(same_id).await;

    assert!(matches!(slug, Err(Error::Conflict("slug"))), "{slug:?}");
    assert!(matches!(id, Err(Error::Conflict("id"))), "{id:?}");
    assert_eq!(store.organisations(None, 10).await.unwrap().items, [acme]);
    assert_eq!(store.audit_rows(0, 10).await.unwrap().len(), 1);
}

pub(super) async fn a_client_belongs_to_one_organisation(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    let client = ClientId::from_uuid(Uuid::from_u128(7));
    add_client(&store, acme, client).await.unwrap();
    let rows = store.audit_rows(0, 10).await.unwrap();

    let taken = add_client(&store, other, client).await;

    assert!(matches!(taken, Err(Error::Conflict("client"))), "{taken:?}");
    assert_eq!(store.organisation_of_client(client).await.unwrap().unwrap().id, acme);
    assert!(store.organisation(other).await.unwrap().unwrap().clients.is_empty());
    assert_eq!(store.audit_rows(0, 10).await.unwrap(), rows);
    store.change_organisation(acme, move |acme| acme.delete_client(client, &at(2))).await.unwrap();
    assert_eq!(store.organisation_of_client(client).await.unwrap(), None);
    add_client(&store, other, client).await.unwrap();
    assert_eq!(store.organisation_of_client(client).await.unwrap().unwrap().id, other);
}

pub(super) async fn a_changed_organisation_is_seen_by_all_and_a_refused_one_by_nobody(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let rename = |name: &'static str| {
        store.change_organisation(acme, move |acme| {
            acme.update(Some(DisplayName::parse("name", name)?), None, &at(1));
            if name == "Refused" { Err(Refusal::NotBySelf) } else { Ok(acme.audit_head.seq) }
        })
    };

    assert_eq!(rename("Acme Ltd").await.unwrap(), 2);
    assert!(rename("Refused").await.is_err());

    assert_eq!(store.organisation(acme).await.unwrap().unwrap().name.as_str(), "Acme Ltd");
    let unknown = OrganisationId::from_uuid(Uuid::nil());
    let changed = store.change_organisation(unknown, |_| Ok(())).await;
    assert!(matches!(changed, Err(Error::NotFound("organisation"))), "{changed:?}");
}

pub(super) async fn organisations_are_listed_oldest_first(engine: impl Engine) {
    let store = engine.store();
    let slugs = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    for slug in slugs {
        organisation(&store, slug).await;
    }

    let listed = read_all(async |after| store.organisations(after.as_deref(), 3).await).await;

    let listed: Vec<_> = listed.iter().map(|organisation| organisation.slug.as_str()).collect();
    assert_eq!(listed, slugs);
}

pub(super) async fn events_are_listed_newest_first(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    for number in 0..5 {
        create(&store, acme, named(&format!("user-{number}"))).await.unwrap();
        create(&store, other, named(&format!("user-{number}"))).await.unwrap();
    }

    let listed = events(&store, acme, AuditFilter::default()).await;

    let mut stored: Vec<Event> = store.audit_rows(0, 100).await.unwrap().iter().map(parse).collect();
    stored.retain(|event| event.organisation == acme);
    stored.reverse();
    // One of the organisation itself, and two for each person: one in its chain, one in theirs.
    assert_eq!(listed.len(), 11);
    assert_eq!(listed, stored);
}

fn parse(row: &crate::store::AuditRow) -> Event {
    serde_json::from_slice(&row.body).unwrap()
}

pub(super) async fn a_span_of_events_is_handed_out_oldest_first_in_pages_that_are_counted(
    engine: impl Engine,
) {
    let (store, acme) = acme(&engine).await;
    organisation(&store, "other").await;
    let ada = Person::create(&store, acme, "ada").await;
    for second in 0..6 {
        let patch = UserPatch { mfa_enabled: Some(second % 2 == 0), ..UserPatch::default() };
        store.change(acme, ada.id, move |user| user.update(patch.clone(), &at(second))).await.unwrap();
    }
    let span = |after: Option<u64>, until: Option<u64>| AuditSpan {
        actions: vec![Action::UserUpdated, Action::UserDeleted],
        after: after.map(|second| at(second).now),
        until: until.map(|second| at(second).now),
    };
    let seconds = async |span: AuditSpan, offset, limit| {
        let (events, total) = store.audit_span(acme, &span, offset, limit).await.unwrap();
        assert!(events.windows(2).all(|pair| pair[0].row < pair[1].row));
        let seconds: Vec<i64> =
            events.iter().map(|event| event.event.at.seconds() - START.seconds()).collect();
        (seconds, total)
    };

    // The first of them changed nothing, if the switch was on already.
    let (all, total) = seconds(span(None, None), 0, 100).await;
    assert_eq!(total, all.len() as u64);
    assert_eq!(seconds(span(Some(1), Some(4)), 0, 100).await, (vec![2, 3, 4], 3));
    assert_eq!(seconds(span(Some(1), Some(4)), 1, 1).await, (vec![3], 3));
    assert_eq!(seconds(span(Some(1), Some(4)), 3, 10).await, (vec![], 3));
    assert_eq!(seconds(span(Some(4), Some(1)), 0, 10).await, (vec![], 0));
    assert_eq!(seconds(AuditSpan::default(), 0, 10).await, (vec![], 0));
    // A person's creation stands in two chains and is one event.
    let created = AuditSpan { actions: vec![Action::UserCreated], ..AuditSpan::default() };
    assert_eq!(store.audit_span(acme, &created, 0, 10).await.unwrap().1, 1);
}

pub(super) async fn events_are_listed_by_action_time_and_person(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let (ada, grace) =
        (Person::create(&store, acme, "ada").await, Person::create(&store, acme, "grace").await);
    for second in 0..8 {
        for person in [&ada, &grace] {
            let patch = UserPatch { mfa_enabled: Some(second % 2 == 0), ..UserPatch::default() };
            store.change(acme, person.id, move |user| user.update(patch.clone(), &at(second))).await.unwrap();
        }
    }
    let all = events(&store, acme, AuditFilter::default()).await;
    let second = |second| Some(at(second).now);
    let filters = [
        AuditFilter { action: Some(Action::UserUpdated), ..AuditFilter::default() },
        AuditFilter { from: second(3), ..AuditFilter::default() },
        AuditFilter { until: second(3), ..AuditFilter::default() },
        AuditFilter { from: second(2), until: second(6), ..AuditFilter::default() },
        AuditFilter { action: Some(Action::UserUpdated), from: second(2), until: second(6), user: None },
        AuditFilter { user: Some(ada.id), ..AuditFilter::default() },
        AuditFilter { user: Some(ada.id), action: Some(Action::FactorImported), ..AuditFilter::default() },
        AuditFilter { user: Some(grace.id), from: second(2), until: second(6), action: None },
        AuditFilter { user: Some(new_user_id()), ..AuditFilter::default() },
        AuditFilter { from: second(6), until: second(2), ..AuditFilter::default() },
    ];

    for filter in filters {
        let listed = events(&store, acme, filter.clone()).await;
        let expected: Vec<_> = all.iter().filter(|event| is_meant(event, &filter)).cloned().collect();
        assert_eq!(listed, expected, "{filter:?}");
    }
}

fn is_meant(event: &Event, filter: &AuditFilter) -> bool {
    filter.user.is_none_or(|user| event.subject == Subject::User(user))
        && filter.action.is_none_or(|action| event.action == action)
        && filter.from.is_none_or(|from| event.at >= from)
        && filter.until.is_none_or(|until| event.at < until)
}

pub(super) async fn the_events_of_a_person_are_read_to_the_first_one(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();
    // More than one page looks at, so that a page without a hit has a next one.
    store
        .change(acme, user.id, |user| {
            for turn in 0..2500 {
                user.update(UserPatch { mfa_enabled: Some(turn % 2 == 0), ..UserPatch::default() }, &at(1))?;
            }
            Ok(())
        })
        .await
        .unwrap();

    let filter =
        AuditFilter { user: Some(user.id), action: Some(Action::UserCreated), ..AuditFilter::default() };
    let created = events(&store, acme, filter).await;

    assert_eq!(created.len(), 1);
    assert_eq!(created[0].seq, 1);
}

pub(super) async fn all_events_are_read_in_the_order_of_their_commits(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();
    update(&store, &user, UserPatch { mfa_enabled: Some(true), ..UserPatch::default() }).await.unwrap();

    let rows = store.audit_rows(0, 100).await.unwrap();
    let mut paged = Vec::new();
    while let Some(row) = store.audit_rows(paged.last().copied().unwrap_or(0), 1).await.unwrap().first() {
        paged.push(row.row);
    }

    assert!(rows.is_sorted_by(|a, b| a.row < b.row));
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), paged);
    let mut heads: HashMap<Uuid, ChainHead> = HashMap::new();
    for row in &rows {
        let event = parse(row);
        let head = heads.entry(row.subject).or_default();
        *head = head.next(&row.body);
        assert_eq!((row.seq, row.hash), (head.seq, head.hash));
        assert_eq!(
            (event.seq, event.subject.uuid(), event.organisation),
            (row.seq, row.subject, row.organisation)
        );
    }
    assert_eq!(heads.len(), 2);
}

pub(super) async fn documents_claim_the_heads_of_their_chains(engine: impl Engine) {
    let store = engine.store();
    let mut expected = Vec::new();
    for slug in ["one", "two", "three", "four"] {
        organisation(&store, slug).await;
    }
    let organisations = store.organisations(None, 10).await.unwrap().items;
    for organisation in &organisations {
        for name in ["ada", "grace"] {
            create(&store, organisation.id, named(name)).await.unwrap();
        }
    }
    for organisation in &organisations {
        let organisation = store.organisation(organisation.id).await.unwrap().unwrap();
        expected.push((Subject::Organisation(organisation.id), organisation.audit_head));
    }
    for organisation in &organisations {
        for user in store.users(organisation.id, &UserFilter::All, None, 10).await.unwrap().items {
            expected.push((Subject::User(user.id), user.audit_head));
        }
    }

    let claimed = read_all(async |after| store.claimed_heads(after.as_deref(), 3).await).await;

    assert_eq!(claimed.into_iter().map(|claim| (claim.subject, claim.head)).collect::<Vec<_>>(), expected);
}

pub(super) async fn checkpoints_stand_in_order_and_in_one_place_each(engine: impl Engine) {
    let store = engine.store();
    assert_eq!(store.last_checkpoint().await.unwrap(), None);
    let checkpoint = |seq| Checkpoint { seq, at: START, jws: format!("jws {seq}") };
    for seq in 1..=5 {
        store.append_checkpoint(checkpoint(seq)).await.unwrap();
    }

    let taken = store.append_checkpoint(Checkpoint { jws: "another".into(), ..checkpoint(3) }).await;

    assert!(matches!(taken, Err(Error::Conflict("checkpoint"))), "{taken:?}");
    assert_eq!(store.checkpoints(0, 2).await.unwrap(), [checkpoint(1), checkpoint(2)]);
    assert_eq!(store.checkpoints(2, 9).await.unwrap(), [checkpoint(3), checkpoint(4), checkpoint(5)]);
    assert_eq!(store.last_checkpoint().await.unwrap(), Some(checkpoint(5)));
}

pub(super) async fn a_value_is_set_once(engine: impl Engine) {
    let store = engine.store();
    assert_eq!(store.meta("canary").await.unwrap(), None);

    assert_eq!(store.meta_once("canary", b"first".to_vec()).await.unwrap(), b"first");
    assert_eq!(store.meta_once("canary", b"second".to_vec()).await.unwrap(), b"first");

    assert_eq!(store.meta("canary").await.unwrap().as_deref(), Some(&b"first"[..]));
    assert_eq!(store.meta("keys").await.unwrap(), None);
}

pub(super) async fn a_token_is_revoked_until_it_would_have_expired(engine: impl Engine) {
    let store = engine.store();
    let (short, long) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (token, life) in [(short, 60), (long, 600), (long, 600)] {
        store.revoke_token(token, at(life).now).await.unwrap();
    }
    assert!(store.is_revoked(short) && store.is_revoked(long) && !store.is_revoked(Uuid::nil()));

    store.forget_revocations(at(60).now).await.unwrap();
    assert!(!store.is_revoked(short) && store.is_revoked(long));

    let engine = engine.reopen().await;
    assert!(!engine.store().is_revoked(short) && engine.store().is_revoked(long));
}

pub(super) async fn a_decoy_is_a_commit_that_changes_nothing(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let rows = store.audit_rows(0, 10).await.unwrap();
    let before = store.gauges().commits;

    store.commit_decoy().await.unwrap();
    store.ping().await.unwrap();

    assert_eq!(store.gauges().commits, before + 2);
    assert_eq!(store.audit_rows(0, 10).await.unwrap(), rows);
    assert!(store.users(acme, &UserFilter::All, None, 10).await.unwrap().items.is_empty());
}

pub(super) async fn the_self_test_passes_and_leaves_nothing(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let rows = store.audit_rows(0, 10).await.unwrap();

    store.self_test(START).await.unwrap();
    store.self_test(START).await.unwrap();

    assert_eq!(store.audit_rows(0, 10).await.unwrap(), rows);
    assert_eq!(store.organisations(None, 10).await.unwrap().items.len(), 1);
    create(&store, acme, named("ada")).await.unwrap();
    assert_eq!(store.audit_rows(0, 10).await.unwrap().len(), rows.len() + 2);
}

pub(super) async fn a_clock_behind_the_newest_event_fails_the_self_test(engine: impl Engine) {
    let (store, _) = acme(&engine).await;
    let behind = |seconds: i64| countersign_core::Timestamp::from_millis(START.millis() - seconds * 1000);

    store.self_test(behind(60)).await.unwrap();
    let failed = store.self_test(behind(61)).await.unwrap_err().to_string();

    assert!(failed.contains("set the clock"), "{failed}");
}

pub(super) async fn a_document_that_cannot_be_read_is_an_error(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();
    engine.damage(user.id).await;

    let read = store.user(acme, user.id).await;
    let listed = store.users(acme, &UserFilter::All, None, 10).await;
    let changed = store.change(acme, user.id, |_| Ok(())).await;
    let claimed = store.claimed_heads(None, 10).await;

    assert!(matches!(read, Err(Error::Store(_))), "{read:?}");
    assert!(matches!(listed, Err(Error::Store(_))), "{listed:?}");
    assert!(matches!(changed, Err(Error::Store(_))), "{changed:?}");
    assert!(matches!(claimed, Err(Error::Store(_))), "{claimed:?}");
    assert_eq!(find(&store, acme, "ada").await, Some(user.id));
}

pub(super) async fn everything_survives_a_restart(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Person::create(&store, acme, "ada").await;
    let code = attempt(&totp_code(&now()), Target::AnyOtp);
    assert!(person.verify(code.clone()).await.is_accepted());
    let before = (person.document().await, store.organisation(acme).await.unwrap());
    let rows = store.audit_rows(0, 100).await.unwrap();

    let engine = engine.reopen().await;

    let person = Person { store: engine.store(), ..person };
    let after = (person.document().await, person.store.organisation(acme).await.unwrap());
    assert_eq!(after, before);
    assert_eq!(person.store.audit_rows(0, 100).await.unwrap(), rows);
    assert!(!person.verify(code).await.is_accepted());
    assert_eq!(create(&person.store, acme, named("grace")).await.unwrap().number, 1001);
}

pub(super) async fn a_closed_store_refuses_work(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let user = create(&store, acme, named("ada")).await.unwrap();

    store.close().await;
    store.close().await;

    let changed = store.change(acme, user.id, |_| Ok(())).await;
    assert!(matches!(changed, Err(Error::Busy)), "{changed:?}");
    let read = store.user(acme, user.id).await;
    assert!(matches!(read, Err(Error::Busy)), "{read:?}");
}
