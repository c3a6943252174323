//! Promise 1 over all wires: whoever sends one code everywhere at the same time gets in once.

use crate::test_app::{Answer, Call, MFA_GRANT, PASSWORD, Person, TestApp, at_once};
use serde_json::json;

const ROUNDS: usize = 4;

/// Begins a sign-in; returns the token of its second step.
async fn first_step(app: &TestApp, path: &str, member: &str) -> String {
    let form = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];
    let answer = app.post(path).by(&app.root()).form(&form).await;
    let token = answer[member].as_str().or(answer[member]["token"].as_str());
    token.unwrap_or_else(|| panic!("{path}: {}", answer.shown())).to_owned()
}

fn second_step<'a>(
    app: &'a TestApp,
    path: &str,
    grant: &str,
    token: (&str, &str),
    code: (&str, &str),
) -> Call<'a> {
    app.post(path).by(&app.root()).form(&[("grant_type", grant), token, code])
}

async fn everywhere<'a>(app: &'a TestApp, alice: &Person<'_>, code: &str) -> Vec<Call<'a>> {
    // First, for it ends what was begun before through the same client.
    let reltio = first_step(app, "/reltio/oauth/token", "state_token").await;
    let native = first_step(app, "/oauth/token", "mfa_token").await;
    let veeam = first_step(app, "/veeam/api/oauth2/token", "mfa_token").await;
    let safeshare = first_step(app, "/safeshare/api/oauth/token", "access_token").await;
    let (safe, own) = ("/safeshare/api/oauth/token", "/reltio/oauth/users/mfa/resetMyQRCodeEnroll");
    let verify = json!({ "user": alice.id, "code": code });
    vec![
        app.post("/v1/verify").by(&app.root()).json(verify),
        second_step(app, "/oauth/token", MFA_GRANT, ("mfa_token", &native), ("code", code)),
        second_step(app, "/veeam/api/oauth2/token", "Mfa", ("mfa_token", &veeam), ("mfa_code", code)),
        second_step(app, safe, "mfa", ("access_token", &safeshare), ("code", code)),
        second_step(app, "/reltio/oauth/token", "state_token", ("state_token", &reltio), ("totp", code)),
        second_step(app, own, "", ("state_token", &reltio), ("totp", code)),
    ]
}

fn is_accepted(answer: &Answer) -> bool {
    match answer["result"].as_str() {
        Some(result) => result == "accepted",
        None => answer.status == 200,
    }
}

#[tokio::test]
async fn one_code_gets_one_success_over_all_wires() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        app.advance(30);
        let code = alice.code();
        let mut calls = everywhere(&app, &alice, &code).await;
        calls.rotate_left(accepted);

        let answers = at_once(calls).await;

        let wins = answers.iter().filter(|answer| is_accepted(answer)).count();
        let shown: Vec<String> = answers.iter().map(Answer::shown).collect();
        assert_eq!(wins, 1, "{shown:#?}");
        accepted += 1;
        if app.count("alice", "factor.reset").await > 0 {
            break;
        }
    }
    assert_eq!(app.count("alice", "verify.accepted").await, accepted);
}
