//! The client of the HTTP API: one request, one answer, and a problem made into words.

use super::{
    credentials::Credentials,
    failure::{Exit, Failure},
    problem, prompt,
    screen::{plain, text},
};
use countersign_core::Secret;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url, redirect};
use serde_json::{Value, json};
use std::{fs, net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

/// How long the server may take to answer. Its own deadlines are shorter, so this is for a server that is gone.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most items the server puts on a page.
const PAGE: usize = 200;
/// The grant that exchanges a second factor's code for tokens.
const MFA_GRANT: &str = "urn:countersign:grant-type:mfa";

/// Which server, and which organisation on it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Server {
    /// Address of the server
    #[arg(
        long,
        env = "COUNTERSIGN_URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = parse_url,
        global = true,
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub url: Url,
    /// Organisation to act in (slug or id); for owners
    #[arg(
        long,
        env = "COUNTERSIGN_ORGANISATION",
        hide_env_values = true,
        value_name = "ORG",
        global = true,
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub organisation: Option<String>,
    /// PEM file of the authority that signed the server's certificate
    #[arg(
        long,
        env = "COUNTERSIGN_CA_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true,
        help_heading = "Server"
    )]
    pub ca_file: Option<PathBuf>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Which part of a list to show.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Page {
    /// How many to show at most
    #[arg(long, default_value = "50", value_name = "N")]
    pub limit: NonZeroUsize,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Go on after this point, as the last answer named it in "next"
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("expected http://HOST:PORT or https://HOST".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials belong into the environment, not into the address".into());
    }
    Ok(url)
}

/// A connection to the server, signed in.
pub(super) struct Api {
    http: Client,
    url: Url,
    organisation: Option<String>,
    identity: Identity,
}

/// What goes into the `Authorization` header.
enum Identity {
    Nobody,
    Basic { id: String, secret: Secret<String> },
    Bearer { token: Secret<String>, refresh: Option<Secret<String>> },
}

impl Api {
    /// Connects with the credentials of the environment, does the work, and signs out again.
    pub(super) async fn session<T>(
        server: &Server,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let api = Self::connect(server, Credentials::from_environment()?).await?;
        let outcome = work(&api).await;
        api.sign_out().await;
        outcome
    }

    /// Connects, and signs in if these are a person's credentials.
    pub(super) async fn connect(server: &Server, credentials: Credentials) -> Result<Self, Failure> {
        let mut api = Self::anonymous(server)?;
        api.identity = match credentials {
            Credentials::Token(token) => Identity::Bearer { token, refresh: None },
            Credentials::Client { id, secret } => Identity::Basic { id, secret },
            person @ Credentials::Person { .. } => {
                let tokens = api.sign_in(person).await?;
                let token = Secret::new(text(&tokens, "/access_token").to_owned());
                let refresh = Some(Secret::new(text(&tokens, "/refresh_token").to_owned()));
                Identity::Bearer { token, refresh }
            }
        };
        Ok(api)
    }

    /// Prepares the connection without saying who asks.
    pub(super) fn anonymous(server: &Server) -> Result<Self, Failure> {
        let builder = Client::builder()
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Credentials go to the server that was named and to no other.
            .redirect(redirect::Policy::none());
        let builder = match &server.ca_file {
            Some(file) => builder.tls_certs_only(read_certificates(file)?),
            // The system's certificates are neither needed nor always there.
            None if server.url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        // A proxy cannot reach this machine's own address.
        let builder = if is_loopback(&server.url) { builder.no_proxy() } else { builder };
        let http =
            builder.build().map_err(|error| Failure::new(format!("prepare TLS: {}", cause(&error))))?;
        Ok(Self {
            http,
            url: server.url.clone(),
            organisation: server.organisation.clone().filter(|named| !named.is_empty()),
            identity: Identity::Nobody,
        })
    }

    /// Signs a person in: the password, and a second factor when the server asks for one. Returns the tokens.
    pub(super) async fn sign_in(&self, person: Credentials) -> Result<Value, Failure> {
        let Credentials::Person { organisation, username, password, code } = person else {
            return Err(Failure::usage("COUNTERSIGN_USERNAME is not set")
                .hint("this signs people in; service clients need no sign-in"));
        };
        let mut form = vec![
            ("grant_type", "password"),
            ("username", username.as_str()),
            ("password", password.expose()),
        ];
        form.extend(organisation.as_deref().map(|organisation| ("organisation", organisation)));
        let (status, answer) = self.token(&form).await?;
        if status.is_success() {
            return Ok(answer);
        }
        if text(&answer, "/error") != "mfa_required" {
            return Err(problem::of_sign_in(status, &answer));
        }
        if answer["enrolment_required"] == true {
            return Err(Failure::new(format!("{} has no second factor yet", plain(&username)))
                .exit(Exit::Refused)
                .hint("sign in once with a browser to enrol one"));
        }
        self.second_step(&answer, code).await
    }

    async fn second_step(&self, asked: &Value, code: Option<Secret<String>>) -> Result<Value, Failure> {
        let (code, challenge) = match code {
            Some(code) => (code, None),
            None if prompt::is_interactive() => self.ask_for_code(asked).await?,
            None => {
                return Err(Failure::new("the server asks for a second factor")
                    .exit(Exit::Refused)
                    .hint("set COUNTERSIGN_CODE, or use a service client"));
            }
        };
        let token = text(asked, "/mfa_token");
        let mut form = vec![("grant_type", MFA_GRANT), ("mfa_token", token), ("code", code.expose())];
        if is_recovery_code(code.expose()) {
            form.push(("type", "recovery"));
        } else if let Some(challenge) = &challenge {
            form.push(("challenge", challenge));
        }
        match self.token(&form).await? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, answer) => Err(problem::of_sign_in(status, &answer)),
        }
    }

    /// Asks the person for a code; has one sent first if there is no app or token to read it from, or if they want that.
    /// Returns the code, and the challenge it answers.
    async fn ask_for_code(&self, asked: &Value) -> Result<(Secret<String>, Option<String>), Failure> {
        const QUESTION: &str = "Code of your second factor";
        let Some(place) = sent_to(asked) else { return Ok((prompt::code(None, QUESTION)?, None)) };
        if has_app(asked) {
            let code = prompt::line(&format!("{QUESTION} (Enter: have one sent to {}): ", place.shown))?;
            if !code.expose().is_empty() {
                return Ok((code, None));
            }
        }
        let body = json!({"mfaToken": text(asked, "/mfa_token"), "factor": place.factor});
        let request = self.http.post(self.at(&["oauth", "challenge"])).json(&body);
        let challenge = match self.send(request).await? {
            (status, challenge) if status.is_success() => challenge,
            (status, problem) => return Err(problem::of_sign_in(status, &problem)),
        };
        let code = prompt::code(None, &format!("The code that was sent to {}", place.shown))?;
        Ok((code, Some(text(&challenge, "/id").to_owned())))
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<(StatusCode, Value), Failure> {
        let request = self.http.post(self.at(&["oauth", "token"])).form(form);
        self.send(request).await
    }

    /// Ends a session this process began. It ends by itself if that fails.
    pub(super) async fn sign_out(self) {
        if let Identity::Bearer { refresh: Some(refresh), .. } = &self.identity {
            let request = self.http.post(self.at(&["oauth", "revoke"])).form(&[("token", refresh.expose())]);
            drop(self.send(request).await);
        }
    }

    /// Returns the server's address.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for one thing.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, Failure> {
        self.call(Method::GET, path, &[], None).await
    }

    /// Creates a thing, or makes something happen.
    pub(super) async fn post(&self, path: &[&str], body: Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    /// Changes some members of a thing.
    pub(super) async fn patch(&self, path: &[&str], body: Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, &[], Some(body)).await
    }

    /// Deletes a thing.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.call(Method::DELETE, path, &[], None).await.map(drop)
    }

    /// Asks for a list, page after page, until there is no more or enough: `{"items": […], "next": …}`.
    pub(super) async fn list(
        &self,
        path: &[&str],
        filter: &[(&str, String)],
        page: &Page,
    ) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut next = page.after.clone();
        let limit = if page.all { usize::MAX } else { page.limit.get() };
        loop {
            let wanted = limit.saturating_sub(items.len()).clamp(1, PAGE);
            let mut query = filter.to_vec();
            query.push(("limit", wanted.to_string()));
            query.extend(next.take().map(|after| ("after", after)));

            let mut answer = self.call(Method::GET, path, &query, None).await?;
            if let Value::Array(more) = answer["items"].take() {
                items.extend(more);
            }
            next = answer["next"].as_str().map(str::to_owned);
            if next.is_none() || items.len() >= limit {
                return Ok(json!({"items": items, "next": next}));
            }
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let mut request = self.http.request(method, self.at(path)).query(query);
        if let Some(organisation) = &self.organisation {
            request = request.query(&[("organisation", organisation)]);
        }
        request = match &self.identity {
            Identity::Nobody => request,
            Identity::Basic { id, secret } => request.basic_auth(id, Some(secret.expose())),
            Identity::Bearer { token, .. } => request.bearer_auth(token.expose()),
        };
        if let Some(body) = body {
            request = request.json(&body);
        }
        match self.send(request).await? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, problem) => Err(problem::of_api(status, &problem)),
        }
    }

    /// Sends a request and reads the answer, whatever its status.
    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if bytes.is_empty() && status.is_success() {
            return Ok((status, Value::Null));
        }
        serde_json::from_slice(&bytes).map(|value| (status, value)).map_err(|_| {
            Failure::new(format!("{} answered {status}, but not as a Countersign server does", self.url))
                .hint("check --url: is there a proxy or another program at this address?")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = cause(error);
        let failure = Failure::new(format!("reach {}: {cause}", self.url));
        if let Some(hint) = certificate_hint(&cause) {
            return failure.hint(hint);
        }
        if error.is_connect() {
            return failure.hint("is the server running (countersign serve), and is --url right?");
        }
        failure.hint("the request may have been carried out; look before you repeat it")
    }

    /// Returns the address of a path. Segments are encoded, so a name with a slash stays one segment.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
        url
    }
}

/// A factor whose codes are sent.
struct Place {
    factor: String,
    shown: String,
}

/// Returns the first place a code can be sent to, of the factors the first step named.
fn sent_to(asked: &Value) -> Option<Place> {
    asked["factors"].as_array()?.iter().find_map(|factor| {
        let shown = plain(factor["destination"].as_str()?);
        Some(Place { factor: factor["id"].as_str()?.to_owned(), shown })
    })
}

/// Tells whether there is an app or a token that shows codes.
fn has_app(asked: &Value) -> bool {
    let is_app = |factor: &Value| ["totp", "hotp"].contains(&text(factor, "/type"));
    asked["factors"].as_array().is_some_and(|factors| factors.iter().any(is_app))
}

/// Returns what a person's code must be named as when it is not from an app or a token: those have digits only.
fn is_recovery_code(code: &str) -> bool {
    code.chars().any(char::is_alphabetic) || code.chars().filter(|c| c.is_alphanumeric()).count() > 8
}

fn read_certificates(file: &PathBuf) -> Result<Vec<Certificate>, Failure> {
    let pem = fs::read(file).map_err(|error| Failure::usage(format!("read {}: {error}", file.display())))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Failure::usage(format!("{} holds no certificate", file.display()))
            .hint("expected PEM: -----BEGIN CERTIFICATE-----")),
    }
}

/// Says what to do about a certificate that the TLS library refuses.
fn certificate_hint(cause: &str) -> Option<&'static str> {
    let why = cause.strip_prefix("invalid peer certificate: ")?;
    Some(if why.contains("CaUsedAsEndEntity") {
        "the server shows the certificate of an authority (CA:TRUE), which openssl req -x509 makes unless told otherwise; \
         add -addext basicConstraints=critical,CA:FALSE, or have the authority sign one for the server"
    } else if ["UnknownIssuer", "BadSignature"].iter().any(|word| why.contains(word)) {
        "name the certificate of the authority that signed it with --ca-file; one that signed itself is its own"
    } else {
        "look at its names and dates: openssl x509 -in FILE -noout -text"
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Returns an error's last cause: what the operating system or the TLS library said.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stub::{Stub, reply};

    fn client() -> Credentials {
        Credentials::Client { id: "client".into(), secret: "s3cret".to_owned().into() }
    }

    fn person(code: Option<&str>) -> Credentials {
        Credentials::Person {
            organisation: None,
            username: "ada".into(),
            password: "correct horse".to_owned().into(),
            code: code.map(|code| code.to_owned().into()),
        }
    }

    #[tokio::test]
    async fn a_client_names_itself_on_every_request() {
        let stub = Stub::start(vec![reply("GET", "/v1/users/a%2Fb", 200, json!({"username": "a/b"}))]).await;

        let api = Api::connect(&stub.server(), client()).await.expect("connect");
        let user = api.get(&["v1", "users", "a/b"]).await.expect("user");

        assert_eq!(user["username"], "a/b");
        assert_eq!(stub.seen()[0].authorization, "Basic Y2xpZW50OnMzY3JldA==");
    }

    #[test]
    fn a_code_can_be_sent_to_the_first_place_that_takes_one() {
        let asked = json!({"factors": [
            {"type": "totp", "id": "f1", "label": "Phone"},
            {"type": "sms", "id": "f2", "destination": "+49•••78"},
            {"type": "recovery"},
        ]});

        let place = sent_to(&asked).expect("a place");
        assert_eq!((place.factor.as_str(), place.shown.as_str()), ("f2", "+49•••78"));
        assert!(has_app(&asked));
        let only_recovery = json!({"factors": [{"type": "recovery"}]});
        assert!(sent_to(&only_recovery).is_none() && !has_app(&only_recovery));
        assert!(sent_to(&json!({"error": "mfa_required"})).is_none(), "a server that names none");
    }

    #[tokio::test]
    async fn an_owner_names_the_organisation() {
        let stub =
            Stub::start(vec![reply("GET", "/v1/clients?organisation=acme", 200, json!({"items": []}))]).await;

        let server = Server { organisation: Some("acme".into()), ..stub.server() };
        let api = Api::connect(&server, client()).await.expect("connect");

        api.get(&["v1", "clients"]).await.expect("clients");
    }

    #[tokio::test]
    async fn a_problem_becomes_words_with_code_field_and_request_id() {
        let problem = json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "detail": "username is taken",
            "code": "conflict", "field": "username", "requestId": "r-1",
        });
        let stub = Stub::start(vec![reply("POST", "/v1/users", 409, problem)]).await;

        let api = Api::connect(&stub.server(), client()).await.expect("connect");
        let failure = api.post(&["v1", "users"], json!({"username": "ada"})).await.expect_err("conflict");

        assert_eq!(failure.message, "username is taken (code conflict, field username, request r-1)");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.hint.is_some());
    }

    #[tokio::test]
    async fn another_program_at_the_address_is_told_apart() {
        let stub = Stub::start(vec![reply("GET", "/v1/users/ada", 502, Value::Null)]).await;

        let api = Api::connect(&stub.server(), client()).await.expect("connect");
        let failure = api.get(&["v1", "users", "ada"]).await.expect_err("no answer of ours");

        assert!(failure.message.contains("502"), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("--url")));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_said_so() {
        let stub = Stub::start(vec![]).await;
        let server = stub.server();
        drop(stub);

        let api = Api::connect(&server, client()).await.expect("connect");
        let failure = api.get(&["v1", "users"]).await.expect_err("nobody listens");

        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.hint.is_some_and(|hint| hint.contains("countersign serve")));
    }

    #[tokio::test]
    async fn a_person_signs_in_in_two_steps_and_out_again() {
        let stub = Stub::start(vec![
            reply(
                "POST",
                "/oauth/token",
                400,
                json!({"error": "mfa_required", "mfa_token": "m1", "enrolment_required": false}),
            ),
            reply("POST", "/oauth/token", 200, json!({"access_token": "a1", "refresh_token": "r1"})),
            reply("GET", "/v1/me", 200, json!({"username": "ada"})),
            reply("POST", "/oauth/revoke", 200, json!({})),
        ])
        .await;

        let api = Api::connect(&stub.server(), person(Some("ABCD-EFGH-JKMN-PQRS"))).await.expect("sign in");
        api.get(&["v1", "me"]).await.expect("me");
        api.sign_out().await;

        let seen = stub.seen();
        assert!(seen[0].body.contains("grant_type=password&username=ada"));
        assert!(
            seen[1].body.contains("mfa_token=m1&code=ABCD-EFGH-JKMN-PQRS&type=recovery"),
            "{}",
            seen[1].body
        );
        assert_eq!(seen[2].authorization, "Bearer a1");
        assert!(seen[3].body.contains("token=r1"));
    }

    #[tokio::test]
    async fn a_wrong_password_is_a_refusal() {
        let refusal = json!({"error": "invalid_grant", "error_description": "wrong username or password"});
        let stub = Stub::start(vec![reply("POST", "/oauth/token", 400, refusal)]).await;

        let failure = Api::connect(&stub.server(), person(None)).await.err().expect("refused");

        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.message, "wrong username or password (code invalid_grant)");
    }

    #[tokio::test]
    async fn a_list_goes_on_until_there_is_enough() {
        let stub = Stub::start(vec![
            reply("GET", "/v1/users?limit=200", 200, json!({"items": vec![json!({}); 200], "next": "p2"})),
            reply(
                "GET",
                "/v1/users?limit=50&after=p2",
                200,
                json!({"items": vec![json!({}); 50], "next": "p3"}),
            ),
        ])
        .await;

        let api = Api::connect(&stub.server(), client()).await.expect("connect");
        let page = Page { limit: NonZeroUsize::new(250).expect("not zero"), all: false, after: None };
        let list = api.list(&["v1", "users"], &[], &page).await.expect("list");

        assert_eq!(list["items"].as_array().map(Vec::len), Some(250));
        assert_eq!(list["next"], "p3");
    }

    #[test]
    fn an_address_is_http_and_carries_no_password() {
        assert!(parse_url("https://mfa.example").is_ok());
        assert!(parse_url("ftp://mfa.example").is_err());
        assert!(parse_url("mfa.example").is_err());
        assert!(parse_url("https://ada:secret@mfa.example").is_err());
    }
}
