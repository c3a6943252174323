//! Whose request is whose: prefixes, host names, the owner of `/`, and what a configuration must not leave open.

use crate::test_app::{Credentials, TestApp};
use countersign::{config::Config, http::dialects::Dialect};

/// Calls a path that no dialect and no API has: who answers shows by the shape of the answer.
async fn answered_by(app: &TestApp, host: &str, path: &str) -> &'static str {
    let answer = app.get(path).header("host", host).await.expect(404);
    match answer.header("content-type") {
        Some("application/problem+json") if answer.json["code"] == "not_found" => "native",
        _ => "dialect",
    }
}

#[tokio::test]
async fn each_dialect_answers_below_its_prefix_in_its_own_shape() {
    let app = TestApp::start().await;

    for dialect in Dialect::ALL {
        assert_eq!(
            answered_by(&app, "any.example", &format!("{}/nothing", dialect.prefix())).await,
            "dialect"
        );
        assert_eq!(answered_by(&app, "any.example", &format!("{}x", dialect.prefix())).await, "native");
        app.put(&format!("{}/nothing", dialect.prefix())).await.expect(404);
    }
}

#[tokio::test]
async fn a_dialect_that_is_switched_off_is_not_there() {
    let app = TestApp::start_with(|config| config.dialects.veeam.enabled = false).await;

    assert_eq!(answered_by(&app, "any.example", "/veeam/nothing").await, "native");
    assert_eq!(answered_by(&app, "any.example", "/rsa/nothing").await, "dialect");
}

#[tokio::test]
async fn on_its_own_host_a_dialect_owns_every_path_but_the_common_ones() {
    let app =
        TestApp::start_with(|config| config.dialects.veeam.hosts = vec!["Backup.Example.".into()]).await;

    for host in ["backup.example", "BACKUP.example:8443", "backup.example."] {
        assert_eq!(answered_by(&app, host, "/nothing").await, "dialect", "{host}");
        assert_eq!(answered_by(&app, host, "/v1/nothing").await, "dialect", "{host}");
        app.get("/healthz").header("host", host).await.expect_ok();
    }
    assert_eq!(answered_by(&app, "other.example", "/nothing").await, "native");
    assert_eq!(answered_by(&app, "backup.example", "/rsa/nothing").await, "dialect");
    app.get("/v1/users").header("host", "other.example").by(&app.root()).await.expect_ok();
}

#[tokio::test]
async fn the_owner_of_the_root_leaves_the_native_api_its_hosts() {
    let app = TestApp::start_with(|config| {
        config.dialects.root = Some(Dialect::Reltio);
        config.dialects.rsa.hosts = vec!["rsa.example".into()];
        config.server.hosts = vec!["mfa.example".into()];
    })
    .await;

    assert_eq!(answered_by(&app, "anything.example", "/v1/nothing").await, "dialect");
    assert_eq!(answered_by(&app, "mfa.example", "/v1/nothing").await, "native");
    app.get("/v1/users").header("host", "mfa.example").by(&app.root()).await.expect_ok();
    app.get("/healthz").header("host", "anything.example").await.expect_ok();
}

#[tokio::test]
async fn no_spelling_of_a_path_or_host_leads_from_a_dialect_to_anything_else() {
    let app = TestApp::start_with(|config| {
        config.dialects.root = Some(Dialect::Reltio);
        config.dialects.veeam.hosts = vec!["veeam.example".into()];
        config.dialects.rsa.hosts = vec!["rsa.example".into()];
        config.server.hosts = vec!["mfa.example".into()];
    })
    .await;
    let form = [("grant_type", "password"), ("username", "admin"), ("password", &*app.admin_password)];
    let owner = app.token(&form).header("host", "mfa.example").await.expect_ok();
    let owner = Credentials::bearer(&owner.text("access_token"));

    for host in
        ["any.example", "veeam.example", "rsa.example", "veeam.example.:1", "x@mfa.example", "[::1]", ""]
    {
        for path in [
            "/v1/users",
            "//v1/users",
            "/services/v1/users",
            "/services/oauth/oauth/../v1/users",
            "/oauth/%2e%2e/%2e%2e/v1/users",
            "/../v1/users",
            "/%2fv1/users",
            "/%76eeam/api/v8/users",
            "//veeam/api/v8/users",
            "/VEEAM/api/v8/users",
            "/services/veeam/api/v8/users",
            "/oauth/rsa/AdminInterface/restapi/v1/users/lookup",
            "/reltio/../veeam/api/v8/users",
            "/reltio/services/safeshare/api/v1/users",
            "/veeam/../v1/users",
            "/rsa//../v1/users",
            "/v1/organisations/main/policy",
            "/openapi.json",
            "/docs",
            "/.well-known/oauth-authorization-server",
        ] {
            let answer = app.get(path).by(&owner).header("host", host).await;
            assert!([404, 405].contains(&answer.status.as_u16()), "{host}{path}: {}", answer.shown());
            assert_ne!(answer.json["code"], "not_found", "{host}{path}");
        }
    }
    let absolute = app.get("http://any.example/v1/users").by(&owner).header("host", "mfa.example").await;
    assert_eq!(absolute.expect(404).json["errorCode"], 4040, "the address counts, not the header");
}

#[test]
fn a_configuration_that_leaves_an_owner_open_is_refused_by_its_key() {
    for (variables, said) in [
        (
            vec![("DIALECTS__VEEAM__HOSTS", "['a.example']"), ("DIALECTS__RSA__HOSTS", "['A.example.']")],
            "DIALECTS__RSA__HOSTS: A.example. is bound to veeam already",
        ),
        (
            vec![("SERVER__HOSTS", "['a.example']"), ("DIALECTS__RSA__HOSTS", "['a.example']")],
            "is bound to the native API already",
        ),
        (vec![("DIALECTS__RSA__HOSTS", "['https://a.example/']")], "expected host names"),
        (vec![("DIALECTS__RSA__HOSTS", "['a.example:8443']")], "DIALECTS__RSA__HOSTS: expected host names"),
        (vec![("DIALECTS__RSA__HOSTS", "['*.a.example']")], "without scheme, port or wildcard"),
        (vec![("SERVER__HOSTS", "['mfa.example:443']")], "SERVER__HOSTS: expected host names"),
        (
            vec![("DIALECTS__RSA__HOSTS", "['a.example']"), ("DIALECTS__RSA__ENABLED", "false")],
            "goes with a dialect that is switched on",
        ),
        (vec![("DIALECTS__ROOT", "reltio")], "needs server.hosts"),
        (
            vec![
                ("DIALECTS__ROOT", "reltio"),
                ("DIALECTS__RELTIO__ENABLED", "false"),
                ("SERVER__HOSTS", "['a.example']"),
            ],
            "reltio is switched off",
        ),
        (vec![("DIALECTS__ROOT", "okta")], "unknown variant"),
        (vec![("DIALECTS__OKTA__ENABLED", "true")], "okta"),
        (vec![("DIALECTS__SAFESHARE__ORGANISATION", "main")], "organisation"),
    ] {
        let variables =
            variables.into_iter().map(|(name, value)| (format!("COUNTERSIGN__{name}"), value.to_owned()));
        let error = Config::load(None, variables).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn the_server_does_not_start_with_a_dialect_of_no_organisation() {
    let directory = tempfile::tempdir().expect("directory");
    let mut config = crate::test_app::config(directory.path());
    config.dialects.veeam.organisation = "acme".into();

    let refused = countersign::running::start(config, crate::test_app::clock()).await;

    let error = refused.err().expect("no such organisation").to_string();
    assert!(error.contains("dialects.veeam.organisation: there is no organisation acme"), "{error}");
}

#[tokio::test]
async fn too_many_requests_are_answered_in_the_vendors_shape() {
    let app = TestApp::start_with(|config| config.limits.per_address = 1).await;
    for _ in 0..3 {
        app.get("/rsa/nothing").await;
    }

    let answer = app.get("/rsa/nothing").by(&Credentials::NONE).await.expect(429);

    assert_ne!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.header("retry-after").is_some());
}

/// A dialect's page of calls, as the code has it.
fn page_of_calls(dialect: Dialect) -> String {
    let head = format!(
        "# Every call of the dialect {dialect}, and what it is natively\n\n\
         Made from the code: a call that is not here is not served. *Asks for* names the permission of the caller.\n\
         Paths are those below the dialect's base address.\n\n"
    );
    head + &countersign::http::dialects::table(dialect)
}

#[test]
fn the_manual_lists_every_call() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/dialects/calls");
    for dialect in Dialect::ALL {
        let (path, expected) = (folder.join(format!("{dialect}.md")), page_of_calls(dialect));
        if std::env::var_os("WRITE_MANUAL").is_some() {
            std::fs::write(&path, &expected).expect("write the manual");
        }

        let written = std::fs::read_to_string(&path).expect("the manual");

        let advice = "run: WRITE_MANUAL=1 cargo nextest run -E 'test(manual_lists_every_call)'";
        assert_eq!(written, expected, "{dialect}: {advice}");
    }
}
