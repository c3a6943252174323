//! The beginning of an installation.

use crate::test_app::{clock, config};
use countersign::{app::App, service::setup};
use countersign_core::{
    Call, Organisation, OrganisationId,
    profile::{DisplayName, Username},
};

#[tokio::test]
async fn the_first_accounts_are_made_once() {
    let directory = tempfile::tempdir().expect("directory");
    let app = App::open(config(directory.path()), clock()).await.expect("open");

    let first = setup::initialise(&app).await.expect("initialise");
    let again = setup::initialise(&app).await.expect("initialise");

    assert!(first.is_some());
    assert!(again.is_none());
}

#[tokio::test]
async fn a_set_up_that_was_cut_short_is_taken_up_again() {
    let directory = tempfile::tempdir().expect("directory");
    let app = App::open(config(directory.path()), clock()).await.expect("open");
    let call = Call::system(app.clock.now());
    let half = Organisation::new(
        OrganisationId::generate(call.now, &mut rand::rng()),
        Username::parse("slug", "main").expect("slug"),
        DisplayName::parse("name", "Countersign").expect("name"),
        &call,
    );
    app.store.create_organisation(half.clone()).await.expect("create");

    let first = setup::initialise(&app).await.expect("initialise").expect("nobody could sign in yet");

    assert_eq!(first.organisation.id, half.id);
    assert!(first.admin.password.is_some(), "the owner comes with a password, in one commit");
}
