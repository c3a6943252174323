//! Rate limits on ordinary routes.

use crate::test_app::TestApp;

const MANY: usize = 50;

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let app = TestApp::start_with(|config| config.limits.per_client = 2).await;
    let (busy, calm) = (app.client(&["users:read"]).await, app.client(&["users:read"]).await);

    let mut limited = None;
    for _ in 0..MANY {
        let answer = app.get("/v1/users").by(&busy.credentials()).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }

    let limited = limited.expect("a limit").expect_problem(429, "rate_limited");
    assert!(limited.header("retry-after").is_some());
    app.get("/v1/users").by(&calm.credentials()).await.expect_ok();
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_refused_before_anybody_looks_at_its_credentials() {
    let app = TestApp::start_with(|config| config.limits.per_address = 2).await;

    let mut statuses = Vec::new();
    for _ in 0..MANY {
        statuses.push(app.get("/v1/users").await.status);
    }

    assert_eq!(statuses.first().map(ToString::to_string), Some("401 Unauthorized".into()));
    assert!(statuses.iter().any(|status| *status == 429));
}
