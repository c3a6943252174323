//! What an identity engineer tries first, with `curl`, `oathtool` and `zbarimg` only.

use crate::{
    installation::{Installation, Running},
    phone::Phone,
    tools::{Answer, curl, printed, text},
};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A server, and whoever talks to it with a bearer token.
struct Caller<'a> {
    server: &'a Running,
    bearer: String,
}

impl<'a> Caller<'a> {
    fn new(server: &'a Running, token: &Value) -> Self {
        let token = token["access_token"].as_str().expect("an access token");
        Self { server, bearer: format!("Authorization: Bearer {token}") }
    }

    fn get(&self, path: &str) -> Answer {
        curl(["--header", &self.bearer, &self.server.at(path)])
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        curl(["--header", &self.bearer, "--json", &body.to_string(), &self.server.at(path)])
    }

    fn verify(&self, code: &str) -> Answer {
        self.post("/v1/verify", &json!({"user": "ada", "code": code}))
    }
}

#[test]
fn a_factor_lives_from_its_qr_code_to_its_reset_and_all_of_it_is_proved() {
    let installation = Installation::new();
    let server = installation.serve();
    let client = sign_in_client(&installation, &server);

    let mut phone = enrol(&installation, &client);
    use_and_lock(&client, &mut phone);
    unlock_and_reset(&client, &server, &mut phone);

    let (status, log) = server.terminate();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(installation.verify_audit().status.code(), Some(0));
    edit_offline(&installation);
    name_the_edit(&installation);
}

fn sign_in_client<'a>(installation: &Installation, server: &'a Running) -> Caller<'a> {
    let token = curl([
        "--user",
        &installation.client(),
        "--data",
        "grant_type=client_credentials",
        &server.at("/oauth/token"),
    ]);
    let token = token.json(200);
    assert_eq!(token["token_type"], "Bearer");
    Caller::new(server, &token)
}

/// Creates a person, enrols an app by its QR code, and activates it.
fn enrol(installation: &Installation, client: &Caller<'_>) -> Phone {
    let ada = json!({"username": "ada", "displayName": "Ada Lovelace", "email": "ada@example.org"});
    client.post("/v1/users", &ada).json(201);
    let factor = client.post("/v1/users/ada/factors", &json!({"type": "totp", "label": "Phone"})).json(201);
    assert_eq!(factor["state"], "pending");
    let uri = factor["otpauthUri"].as_str().expect("a URI");
    let path = format!("/v1/users/ada/factors/{}", factor["id"].as_str().expect("an id"));

    assert_eq!(scan(installation, client, &format!("{path}/qr")), uri);
    let drawing = client.get(&format!("{path}/qr"));
    assert_eq!((drawing.status, drawing.kind.as_str()), (200, "image/svg+xml"));

    let mut phone = Phone::scan(uri);
    let wrong = &phone.wrong_codes()[0];
    let refusal = client.post(&format!("{path}/activate"), &json!({"code": wrong})).json(400);
    assert_eq!(refusal["code"], "code_rejected");
    assert_eq!(client.verify(wrong).result(), "no_factor", "a pending factor verifies nothing");

    let code = phone.fresh_code();
    let active = client.post(&format!("{path}/activate"), &json!({"code": code})).json(200);
    assert_eq!(active["state"], "active");
    assert_eq!(client.verify(&code).result(), "replayed", "activating used the code");
    assert_ne!(client.get(&format!("{path}/qr")).status, 200, "the secret left once");
    phone
}

/// Fetches a QR code as a picture and reads it as a phone's camera does.
fn scan(installation: &Installation, client: &Caller<'_>, path: &str) -> String {
    let picture = installation.beside("qr.png");
    let picture = picture.to_str().expect("a path");
    let png =
        ["--header", &client.bearer, "--header", "Accept: image/png", &client.server.at(path), "-o", picture];
    let fetched = curl(png);
    assert_eq!((fetched.status, fetched.kind.as_str()), (200, "image/png"));
    printed("zbarimg", ["-q", "--raw", picture])
}

/// Uses a code, tries to use it again, then guesses until the method locks.
fn use_and_lock(client: &Caller<'_>, phone: &mut Phone) {
    let code = phone.fresh_code();
    let accepted = client.verify(&code).json(200);
    assert_eq!((accepted["result"].as_str(), accepted["type"].as_str()), (Some("accepted"), Some("totp")));
    assert_eq!(client.verify(&code).result(), "replayed");

    let guesses = phone.wrong_codes();
    for (guess, left) in guesses.iter().zip([4, 3, 2, 1]) {
        let rejected = client.verify(guess).json(200);
        assert_eq!(
            (rejected["result"].as_str(), rejected["attemptsLeft"].as_u64()),
            (Some("rejected"), Some(left))
        );
    }
    let locked = client.verify(&guesses[4]).json(200);
    assert_eq!((locked["result"].as_str(), locked["method"].as_str()), (Some("locked"), Some("TOKEN")));
}

/// Has somebody of the help desk unlock and, later, reset.
fn unlock_and_reset(client: &Caller<'_>, server: &Running, phone: &mut Phone) {
    let code = phone.fresh_code();
    assert_eq!(client.verify(&code).result(), "locked", "a right code does not open a lock");

    let helpdesk = sign_in_helpdesk(client, server);
    assert_eq!(helpdesk.get("/v1/users/ada").json(200)["lockedMethods"], json!(["TOKEN"]));
    let locks = helpdesk.post("/v1/users/ada/unlock", &json!({})).json(200);
    assert_eq!(locks["failures"], 0);
    assert_eq!(client.verify(&code).result(), "accepted", "a code refused by a lock is not used up");

    assert_eq!(helpdesk.post("/v1/users/admin/reset", &json!({})).status, 403, "the ladder");
    assert_eq!(helpdesk.post("/v1/users/ada/reset", &json!({})).json(200)["factors"], 0);
    assert_eq!(client.verify(&code).result(), "no_factor");
}

/// Creates somebody of the help desk, who accepts an invitation and signs in with a password.
fn sign_in_helpdesk<'a>(client: &Caller<'_>, server: &'a Running) -> Caller<'a> {
    const PASSWORD: &str = "seven quiet green harbours";
    client.post("/v1/users", &json!({"username": "grace", "roles": ["helpdesk"]})).json(201);
    let invitation = client.post("/v1/users/grace/invitation", &json!({})).json(201);
    let acceptance = json!({"token": invitation["token"], "password": PASSWORD}).to_string();
    for status in [204, 410] {
        let answer = curl(["--json", &acceptance, &server.at("/v1/invitations/accept")]);
        assert_eq!(answer.status, status, "an invitation is good once: {answer:?}");
    }
    let token = curl([
        "--data",
        "grant_type=password",
        "--data",
        "username=grace",
        "--data-urlencode",
        &format!("password={PASSWORD}"),
        &server.at("/oauth/token"),
    ]);
    Caller::new(server, &token.json(200))
}

/// Makes a refused attempt look like a right one, as somebody with the database in their hands would.
fn edit_offline(installation: &Installation) {
    let database = Connection::open(installation.database()).expect("open");
    let edited = database
        .execute(
            "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'wrong_code', 'a_mistake!') AS BLOB)
             WHERE row = (SELECT max(row) FROM audit WHERE action = 'verify.rejected'
                          AND CAST(body AS TEXT) LIKE '%wrong_code%')",
            [],
        )
        .expect("edit");
    assert_eq!(edited, 1);
}

fn name_the_edit(installation: &Installation) {
    let database = Connection::open(installation.database()).expect("open");
    let row: i64 = database
        .query_row("SELECT row FROM audit WHERE CAST(body AS TEXT) LIKE '%a_mistake!%'", [], |row| row.get(0))
        .expect("the edited row");
    drop(database);

    let verdict = installation.verify_audit();

    let printed = text(&verdict.stdout) + &text(&verdict.stderr);
    assert_eq!(verdict.status.code(), Some(6), "{printed}");
    assert!(printed.contains(&format!("audit row {row} ")), "row {row} is not named: {printed}");
    assert_eq!(printed.matches("audit row ").count(), 1, "one edit is one finding: {printed}");
}
