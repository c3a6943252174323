//! Keys the command line makes: what is in their files, and that programs get in with them.

use crate::{
    installation::{Installation, Running, finish, program},
    tools::text,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    time::{SystemTime, UNIX_EPOCH},
};

fn run(installation: &Installation, server: &Running, line: &str) -> Output {
    let mut command = program();
    command
        .args(line.split_whitespace())
        .current_dir(installation.home.path())
        .env("COUNTERSIGN_URL", &server.url)
        .env("COUNTERSIGN_CLIENT_ID", installation.client_id())
        .env("COUNTERSIGN_CLIENT_SECRET", installation.client_secret());
    finish(command)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Signs as RSA's own clients do: with what is in the file, and nothing else.
fn sign(file: &Value) -> String {
    let pem = file["accessKey"].as_str().expect("a key");
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_der(&BASE64.decode(der.as_bytes()).expect("base64")).expect("PKCS#1");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({
        "sub": file["accessID"], "aud": file["adminRestApiUrl"], "iat": now, "exp": now + 3600,
    });
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", encode(&json!({ "typ": "JWT", "alg": "RS256" })), encode(&claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("sign");
    format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[tokio::test]
async fn a_program_gets_in_with_an_rsa_key_file() {
    let installation = Installation::new();
    let server = installation.serve();
    let path = installation.home.path().join("desk.key");
    let line = "client create --name Bot --role helpdesk --customer Acme --rsa-key desk.key";

    let made = run(&installation, &server, line);

    let shown = text(&made.stdout);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let file = read(&path);
    let mut members: Vec<&String> = file.as_object().expect("an object").keys().collect();
    members.sort_unstable();
    assert_eq!(members, ["accessID", "accessKey", "adminRestApiUrl", "customerName", "description"]);
    assert_eq!((&file["customerName"], &file["description"]), (&json!("Acme"), &json!("Bot")));
    assert_eq!(file["adminRestApiUrl"], format!("{}/rsa/AdminInterface/restapi/v1", server.url));
    assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    assert!(!shown.contains("PRIVATE") && shown.contains("desk.key"), "{shown}");

    let url = format!("{}/users/search", file["adminRestApiUrl"].as_str().expect("an address"));
    let request = reqwest::Client::builder().no_proxy().build().expect("a client").post(url);
    let request = request.bearer_auth(sign(&file)).json(&json!({ "emailLike": "nobody" }));
    let answer = request.send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.text().await.expect("text").as_str()), (200, "[]"));
}

#[test]
fn a_file_that_is_there_is_not_overwritten_and_no_client_is_made() {
    let installation = Installation::new();
    let server = installation.serve();
    let path = installation.home.path().join("desk.key");
    fs::write(&path, "mine").expect("write");

    let refused = run(&installation, &server, "client create --name Bot --role super --rsa-key desk.key");

    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("hint: an existing file is never overwritten"));
    assert_eq!(fs::read_to_string(&path).expect("read"), "mine");
    let clients: Value =
        serde_json::from_slice(&run(&installation, &server, "client list --json").stdout).expect("JSON");
    assert_eq!(clients["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_client_that_is_refused_leaves_no_file() {
    let installation = Installation::new();
    let server = installation.serve();

    let line = format!("client create --name {} --role super --jwk bot.jwk", "x".repeat(200));
    let refused = run(&installation, &server, &line);

    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert!(!installation.home.path().join("bot.jwk").exists());
}

#[test]
fn a_private_jwk_stays_in_its_file() {
    let installation = Installation::new();
    let server = installation.serve();

    let made = run(&installation, &server, "client create --name Bot --scope verify --jwk bot.jwk --json");

    assert!(made.status.success(), "{}", text(&made.stderr));
    let (client, jwk): (Value, Value) = (
        serde_json::from_slice(&made.stdout).expect("JSON"),
        read(&installation.home.path().join("bot.jwk")),
    );
    assert!(client["secret"].is_null());
    let registered = &client["publicKeys"][0]["jwk"];
    assert_eq!((&registered["kid"], &registered["n"]), (&jwk["kid"], &jwk["n"]));
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        assert!(registered[private].is_null() && jwk[private].is_string(), "{private}");
    }
}
