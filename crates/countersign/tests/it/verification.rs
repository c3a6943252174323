//! Checking codes: the story an organisation lives through, and what happens when many ask at once.

use crate::test_app::{Otp, Person, TestApp, at_once};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many callers try at the same time.
const CALLERS: usize = 64;

/// The counter-based token of RFC 4226, appendix D.
const RFC_4226: &[u8] = b"12345678901234567890";

fn results(answers: &[crate::test_app::Answer]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.text("result")).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_code_works_once() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;

    let first = alice.verify(alice.code()).await;
    let again = alice.verify(alice.code()).await;

    assert!(first.accepted());
    assert_eq!(first["amr"], json!(["otp", "mfa"]));
    assert_eq!(first["factor"], alice.factor);
    assert_eq!(again.refusal(), Some("replayed"));
    insta::assert_snapshot!(app.audit_trail("alice").await);
}

#[tokio::test]
async fn a_person_enrols_verifies_locks_unlocks_and_is_reset() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").await;

    let enrolled =
        app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" })).await.expect_created();
    let otp = Otp::from_base32(&enrolled.text("secret"));
    assert_eq!(enrolled["state"], "pending");
    assert_eq!(
        alice.verify(otp.code(app.now())).await.refusal(),
        Some("no_factor"),
        "it waits for activation"
    );

    let activate = alice.path(&format!("/factors/{}/activate", enrolled.text("id")));
    let wrong = json!({ "code": otp.wrong_code(app.now()) });
    let rejected = app.post(&activate).by(&root).json(wrong).await.expect_problem(400, "code_rejected");
    assert_eq!(rejected["attemptsLeft"], 4);
    let code = json!({ "code": otp.code(app.now()) });
    let active = app.post(&activate).by(&root).json(code.clone()).await.expect_ok();
    assert_eq!(active["state"], "active");
    assert_eq!(
        alice.verify(otp.code(app.now())).await.refusal(),
        Some("replayed"),
        "activation burns its code"
    );
    app.post(&activate).by(&root).json(code).await.expect_problem(409, "wrong_state");

    app.advance(30);
    assert!(alice.verify(otp.code(app.now())).await.accepted());
    app.advance(30);
    for left in (1..=4).rev() {
        let answer = alice.verify(otp.wrong_code(app.now())).await;
        assert_eq!((answer.refusal(), &answer["attemptsLeft"]), (Some("rejected"), &json!(left)));
    }
    let fifth = alice.verify(otp.wrong_code(app.now())).await;
    assert_eq!((fifth.refusal(), &fifth["method"]), (Some("locked"), &json!("TOKEN")));
    assert_eq!(fifth["lockedUntil"], "2026-11-22T10:01:30.000Z");
    assert_eq!(alice.verify(otp.code(app.now())).await.refusal(), Some("locked"), "even the right code");
    assert_eq!(alice.failures().await, 5, "nothing counts while it is locked");
    let shown = app.get(&alice.path("")).by(&root).await.expect_ok();
    assert_eq!(shown["lockedMethods"], json!(["TOKEN"]));

    app.post(&alice.path("/unlock")).by(&root).json(json!({ "methods": ["TOKEN"] })).await.expect_ok();
    assert_eq!(alice.failures().await, 0);
    assert!(alice.verify(otp.code(app.now())).await.accepted());

    let reset = app.post(&alice.path("/reset")).by(&root).await.expect_ok();
    assert_eq!(reset["factors"], 0);
    app.advance(30);
    assert_eq!(alice.verify(otp.code(app.now())).await.refusal(), Some("no_factor"));
    app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" })).await.expect_created();
    insta::assert_snapshot!(app.audit_trail("alice").await);
}

#[tokio::test]
async fn an_enrolment_lapses_and_five_wrong_first_codes_end_it() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").await;
    let enrol = || app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" }));
    let late = enrol().await.expect_created();
    let otp = Otp::from_base32(&late.text("secret"));
    let path = |id: &str| alice.path(&format!("/factors/{id}/activate"));

    app.advance(600);
    let code = json!({ "code": otp.code(app.now()) });
    app.post(&path(&late.text("id"))).by(&root).json(code).await.expect_problem(410, "enrolment_expired");

    let guessed = enrol().await.expect_created();
    let otp = Otp::from_base32(&guessed.text("secret"));
    for left in (0..5).rev() {
        let wrong = json!({ "code": otp.wrong_code(app.now()) });
        let answer = app.post(&path(&guessed.text("id"))).by(&root).json(wrong).await;
        assert_eq!(answer.expect_problem(400, "code_rejected")["attemptsLeft"], left);
    }
    let code = json!({ "code": otp.code(app.now()) });
    let gone = app.post(&path(&guessed.text("id"))).by(&root).json(code).await;
    gone.expect_problem(404, "factor_not_found");
    assert_eq!(alice.verify(otp.code(app.now())).await.refusal(), Some("no_factor"));
}

#[tokio::test]
async fn a_lock_runs_out_and_the_next_one_takes_twice_as_long() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    alice.lock().await;

    app.advance(29);
    assert_eq!(alice.verify(alice.code()).await.refusal(), Some("locked"));
    app.advance(1);
    let again = alice.verify(alice.wrong_code()).await;
    assert_eq!(again.refusal(), Some("locked"));
    assert_eq!(again["lockedUntil"], "2026-11-22T10:01:30.000Z");
    app.advance(60);
    assert!(alice.verify(alice.code()).await.accepted());
    assert_eq!(alice.failures().await, 0, "success clears the count");
}

#[tokio::test]
async fn a_code_may_be_one_step_off_and_never_older_than_the_last_one() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    app.advance(3600);
    let before_last = alice.code();
    app.advance(30);
    let last = alice.code();
    app.advance(30);
    let now = alice.code();

    assert_eq!(alice.verify(&before_last).await.refusal(), Some("rejected"), "two steps are too many");
    assert!(alice.verify(&now).await.accepted());
    assert_eq!(
        alice.verify(&last).await.refusal(),
        Some("replayed"),
        "an older code is used up with a newer"
    );
}

#[tokio::test]
async fn somebody_elses_code_proves_nothing() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let bob = app.user("bob").with_totp().await;

    let answer = alice.verify(bob.code()).await;
    let by_factor = alice.verify_with(json!({ "code": bob.code(), "factor": bob.factor })).await;

    assert_eq!(answer.refusal(), Some("rejected"));
    assert_eq!(by_factor.refusal(), Some("no_factor"));
    assert!(bob.verify(bob.code()).await.accepted());
}

#[tokio::test]
async fn a_person_is_named_by_id_number_or_username_however_it_is_written() {
    let app = TestApp::start().await;
    let alice = app.user("Ålice").with_totp().await;
    let number = app.get(&alice.path("")).by(&app.root()).await["number"].to_string();

    for handle in [alice.id.as_str(), &alice.id.to_uppercase(), &number, "ålice", "ÅLICE", " A\u{30A}lice "]
    {
        let body = json!({ "user": handle, "code": alice.code() });
        let answer = app.post("/v1/verify").by(&app.root()).json(body).await;
        assert!(answer.accepted(), "{handle}: {}", answer.shown());
        assert_eq!(answer["user"], alice.id);
        app.advance(30);
    }
}

#[tokio::test]
async fn a_code_is_read_as_people_type_it() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let full_width = |code: &str| -> String {
        code.chars().map(|c| char::from_u32(u32::from(c) + 0xFEE0).expect("a digit")).collect()
    };
    let forms: [&dyn Fn(&str) -> String; 6] = [
        &|code| format!("{} {}", &code[..3], &code[3..]),
        &|code| format!("  {}-{} ", &code[..3], &code[3..]),
        &|code| full_width(code),
        &|code| format!("{}\u{00A0}{}", &code[..3], &code[3..]),
        &|code| format!("{}\u{2011}{}", &code[..3], &code[3..]),
        &|code| code.split("").collect::<Vec<_>>().join(" "),
    ];

    for form in forms {
        let typed = form(&alice.code());
        let answer = alice.verify(&typed).await;
        assert!(answer.accepted(), "{typed:?}: {}", answer.shown());
        app.advance(30);
    }
}

#[tokio::test]
async fn a_disabled_person_or_factor_proves_nothing() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").with_totp().await;
    let set = async |path: &str, body: Value| app.patch(path).by(&root).json(body).await.expect_ok();
    let factor = alice.path(&format!("/factors/{}", alice.factor));

    set(&factor, json!({ "state": "disabled" })).await;
    assert_eq!(alice.verify(alice.code()).await.refusal(), Some("no_factor"));
    set(&factor, json!({ "state": "active" })).await;
    set(&alice.path(""), json!({ "status": "disabled" })).await;
    let answer = alice.verify(alice.code()).await;
    assert_eq!((answer.refusal(), &answer["reason"]), (Some("rejected"), &json!("user_disabled")));

    set(&alice.path(""), json!({ "status": "active" })).await;
    assert!(alice.verify(alice.code()).await.accepted());
    set(&factor, json!({ "state": "disabled" })).await;
    set(&factor, json!({ "state": "active" })).await;
    assert_eq!(alice.verify(alice.code()).await.refusal(), Some("replayed"), "no code comes back to life");
}

#[tokio::test]
async fn a_recovery_code_works_once_and_a_new_set_ends_the_old_one() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").with_totp().await;
    let draw = async || {
        let drawn = app.post(&alice.path("/recovery-codes")).by(&root).await.expect_created();
        let codes = drawn["codes"].as_array().expect("codes").iter();
        codes.map(|code| code.as_str().expect("text").to_owned()).collect::<Vec<String>>()
    };
    let recover = |code: &str| alice.verify_with(json!({ "code": code, "type": "recovery" }));
    let codes = draw().await;
    assert_eq!(codes.len(), 10);

    assert!(recover(&codes[0]).await.accepted());
    assert_eq!(recover(&codes[0]).await.refusal(), Some("replayed"));
    assert!(recover(&codes[1].to_lowercase().replace('-', " ")).await.accepted());
    let status = app.get(&alice.path("/recovery-codes")).by(&root).await.expect_ok();
    assert_eq!((&status["total"], &status["remaining"]), (&json!(10), &json!(8)));
    assert_eq!(alice.verify(&codes[2]).await.refusal(), Some("rejected"), "it is no OTP");

    let next = draw().await;
    assert_eq!(recover(&codes[3]).await.refusal(), Some("rejected"));
    assert!(recover(&next[0]).await.accepted());
}

#[tokio::test]
async fn recovery_codes_lock_apart_from_tokens() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    app.post(&alice.path("/recovery-codes")).by(&app.root()).await.expect_created();

    for _ in 0..5 {
        alice.verify_with(json!({ "code": "AAAA-AAAA-AAAA-AAAA", "type": "recovery" })).await.expect_ok();
    }

    let shown = app.get(&alice.path("")).by(&app.root()).await;
    assert_eq!(shown["lockedMethods"], json!(["RECOVERY"]));
    assert!(alice.verify(alice.code()).await.accepted());
}

#[tokio::test]
async fn an_emergency_code_works_once_and_not_for_long() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").await;
    let path = alice.path("/emergency-code");
    let issue = async || app.post(&path).by(&root).await.expect_created().text("code");
    let try_it = |code: &str| alice.verify_with(json!({ "code": code, "type": "emergency" }));

    let first = issue().await;
    assert!(try_it(&first).await.accepted());
    assert_eq!(try_it(&first).await.refusal(), Some("replayed"));
    let shown = app.get(&path).by(&root).await.expect_ok();
    assert_eq!(shown["usedAt"], "2026-11-22T10:00:00.000Z");

    let replaced = issue().await;
    let short = app.post(&path).by(&root).json(json!({ "expiresInSeconds": 60 })).await.expect_created();
    assert_eq!(short["expiresAt"], "2026-11-22T10:01:00.000Z");
    assert_eq!(try_it(&replaced).await.refusal(), Some("rejected"), "the next one took its place");
    app.advance(60);
    assert_eq!(try_it(&short.text("code")).await.refusal(), Some("expired"));

    let withdrawn = issue().await;
    app.delete(&path).by(&root).await.expect(204);
    assert_eq!(try_it(&withdrawn).await.refusal(), Some("no_factor"));
    app.get(&path).by(&root).await.expect(404);
}

async fn with_hotp<'a>(app: &'a TestApp) -> (Person<'a>, Otp, String) {
    let alice = app.user("alice").await;
    let otp = Otp::from_bytes(RFC_4226);
    let body = json!({ "type": "hotp", "secret": otp.base32 });
    let made = app.post(&alice.path("/factors")).by(&app.root()).json(body).await.expect_created();
    let factor = made.text("id");
    (alice, otp, factor)
}

#[tokio::test]
async fn a_counter_moves_forward_only() {
    let app = TestApp::start().await;
    let (alice, otp, factor) = with_hotp(&app).await;

    assert_eq!(otp.at(0), "755224", "the first code of RFC 4226, appendix D");
    assert!(alice.verify(otp.at(0)).await.accepted());
    assert!(alice.verify(otp.at(4)).await.accepted(), "codes made and not used are skipped");
    for used in [0, 3, 4] {
        assert!(!alice.verify(otp.at(used)).await.accepted(), "{used}");
    }
    assert_eq!(alice.verify(otp.at(30)).await.refusal(), Some("rejected"), "too far ahead");
    let shown = app.get(&alice.path(&format!("/factors/{factor}"))).by(&app.root()).await.expect_ok();
    assert_eq!(shown["counter"], 5);
}

#[tokio::test]
async fn a_token_that_ran_ahead_is_found_again_by_two_codes() {
    let app = TestApp::start().await;
    let root = app.root();
    let (alice, otp, factor) = with_hotp(&app).await;
    let path = alice.path(&format!("/factors/{factor}/resync"));
    let resync =
        |first, second| app.post(&path).by(&root).json(json!({ "codes": [otp.at(first), otp.at(second)] }));

    let rejected = resync(40, 42).await.expect_problem(400, "code_rejected");
    assert_eq!(rejected["attemptsLeft"], 4, "a miss counts like a wrong code");
    let found = resync(40, 41).await.expect_ok();
    assert_eq!(found["counter"], 42);
    assert_eq!(alice.failures().await, 0);
    assert!(!alice.verify(otp.at(41)).await.accepted(), "both codes are used up");
    assert!(alice.verify(otp.at(42)).await.accepted());
    resync(40, 41).await.expect_problem(400, "code_rejected");

    alice.lock_by(&otp.wrong_code(app.now())).await;
    resync(50, 51).await.expect_problem(409, "method_locked");
}

#[tokio::test]
async fn a_request_id_gets_the_first_answer_again_for_five_minutes() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let code = alice.code();
    let named = |code: &str, id: &str| alice.verify_with(json!({ "code": code, "requestId": id }));
    let first = named(&code, "try-1").await;
    let wrong = alice.wrong_code();
    let rejected = named(&wrong, "try-2").await;

    let retried = named(&code, "try-1").await;
    let rejected_again = named(&wrong, "try-2").await;

    assert!(first.accepted());
    assert_eq!(retried.json, first.json);
    assert_eq!(rejected_again.json, rejected.json);
    assert_eq!(alice.failures().await, 1);
    assert_eq!(app.count("alice", "verify.accepted").await, 1);
    named(&wrong, "try-1").await.expect_problem(409, "request_id_reused");
    let other = app.client(&["verify"]).await.credentials();
    let body = json!({ "user": alice.id, "code": code, "requestId": "try-1" });
    app.post("/v1/verify").by(&other).json(body).await.expect_problem(409, "request_id_reused");

    app.advance(301);
    assert!(!named(&code, "try-1").await.accepted(), "a code is not good for longer because it was named");
}

/// Promise 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_callers_with_one_code_one_succeeds() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let code = alice.code();

    let answers = at_once((0..CALLERS).map(|_| alice.verify(&code))).await;

    assert_eq!(results(&answers), BTreeMap::from([("accepted".into(), 1), ("replayed".into(), CALLERS - 1)]));
    assert_eq!(app.count("alice", "verify.accepted").await, 1);
}

/// Promise 1, for the codes people keep on paper.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_callers_with_one_recovery_code_or_counter_one_succeeds() {
    let app = TestApp::start().await;
    let (alice, otp, _) = with_hotp(&app).await;
    let drawn = app.post(&alice.path("/recovery-codes")).by(&app.root()).await.expect_created();
    let emergency = app.post(&alice.path("/emergency-code")).by(&app.root()).await.expect_created();

    for (kind, code) in
        [("recovery", &drawn["codes"][0]), ("emergency", &emergency["code"]), ("hotp", &json!(otp.at(0)))]
    {
        let calls = (0..CALLERS).map(|_| alice.verify_with(json!({ "code": code, "type": kind })));
        let answers = at_once(calls).await;
        assert_eq!(results(&answers)["accepted"], 1, "{kind}: {:?}", results(&answers));
    }
}

/// Promise 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_wrong_codes_at_once_each_is_counted_until_the_method_locks() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let wrong = alice.wrong_code();

    let answers = at_once((0..CALLERS).map(|_| alice.verify(&wrong))).await;

    assert_eq!(results(&answers), BTreeMap::from([("locked".into(), CALLERS - 4), ("rejected".into(), 4)]));
    assert_eq!(alice.failures().await, 5);
    assert_eq!(app.count("alice", "verify.rejected").await, CALLERS);
    assert_eq!(app.count("alice", "method.locked").await, 1);
}

/// Promise 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_wrong_codes_at_once_none_is_lost() {
    let app = TestApp::start().await;
    app.policy(json!({ "locks": { "threshold": 100 } })).await;
    let alice = app.user("alice").with_totp().await;
    let wrong = alice.wrong_code();

    let answers = at_once((0..CALLERS).map(|_| alice.verify(&wrong))).await;

    assert_eq!(alice.failures().await, CALLERS as u64);
    let mut left: Vec<u64> =
        answers.iter().map(|answer| answer["attemptsLeft"].as_u64().expect("a count")).collect();
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), CALLERS, "each was told a different number of attempts left");
}

/// A retry storm: one use, one failure, and everybody hears the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_request_id_sent_by_many_at_once_is_one_attempt() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;

    for (id, code) in [("right", alice.code()), ("wrong", alice.wrong_code())] {
        let body = json!({ "code": code, "requestId": id });
        let answers = at_once((0..CALLERS).map(|_| alice.verify_with(body.clone()))).await;
        let results = results(&answers);
        assert_eq!(results.len(), 1, "{id}: {results:?}");
        assert!(answers.iter().all(|answer| answer.json == answers[0].json), "{id}");
    }

    assert_eq!(app.count("alice", "verify.accepted").await, 1);
    assert_eq!(alice.failures().await, 1);
}

/// The first code of an enrolment is a code like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_activations_with_one_code_one_succeeds_and_burns_it() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").await;
    let body = json!({ "type": "totp" });
    let enrolled = app.post(&alice.path("/factors")).by(&root).json(body).await.expect_created();
    let code = Otp::from_base32(&enrolled.text("secret")).code(app.now());
    let path = alice.path(&format!("/factors/{}/activate", enrolled.text("id")));

    let call = || app.call(Method::POST, &path).by(&root).json(json!({ "code": code }));
    let answers = at_once((0..16).map(|_| call()).chain((0..16).map(|_| alice.verify(&code)))).await;

    let activated = answers[..16].iter().filter(|answer| answer.status == 200).count();
    let accepted = answers[16..].iter().filter(|answer| answer.accepted()).count();
    assert_eq!((activated, accepted), (1, 0));
}
