//! The token endpoint and what belongs to it (RFC 6749, 7009, 7662, 8414, 7517). Errors have OAuth's shape.

use super::{
    challenges::{ChallengeView, recipient},
    factors::{EnrolledView, destination},
    verify::{Named, attempt},
};
use crate::{
    error::Error,
    http::{
        SharedApp,
        caller::{AuthenticatedClient, WithinSignInLimit, anonymous, basic},
        extract::{Body, Form, Json},
        problem::Problem,
        request::RequestInfo,
    },
    service::{
        clients,
        factors::Enrolment,
        sign_in::{self, Credentials, Grant, Way},
        tokens::{Holder, SecondStepToken},
    },
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{Invalid, Kind, Recipient, Refusal, Scope, Secret, profile::Label, user::Status};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The grant type of the second step of a sign-in.
pub const MFA_GRANT: &str = "urn:countersign:grant-type:mfa";
/// What a client that signs for itself calls what it sends (RFC 7523 §2.2).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A token request: the members depend on `grant_type`.
#[derive(Deserialize, ToSchema)]
pub struct TokenForm {
    /// `client_credentials`, `password`, `refresh_token` or `urn:countersign:grant-type:mfa`.
    grant_type: Option<String>,
    /// The client's id, if it does not use HTTP Basic.
    client_id: Option<String>,
    /// The client's secret, if it does not use HTTP Basic.
    client_secret: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, for a client that signs for itself.
    client_assertion_type: Option<String>,
    /// What it signed (RFC 7523): `iss` and `sub` its id, `aud` this endpoint or the issuer, `exp` within the hour.
    client_assertion: Option<String>,
    /// For `client_credentials`: some of the client's scopes; all if left out.
    scope: Option<String>,
    /// For `password`: a username or e-mail address.
    username: Option<String>,
    /// For `password`.
    password: Option<String>,
    /// For `password`: the organisation's id or slug; the first organisation if left out.
    organisation: Option<String>,
    /// For `refresh_token`. Each is good once.
    refresh_token: Option<String>,
    /// For the second step: the token of the first.
    mfa_token: Option<String>,
    /// For the second step: what was typed.
    code: Option<String>,
    /// For the second step: the kind of code, if it is not of an OTP factor.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// For the second step: the challenge of `/oauth/challenge`, if the code was sent.
    challenge: Option<String>,
    /// For the second step: the factor enrolled by `/oauth/enrol`, which this code activates.
    factor: Option<String>,
}

/// Tokens (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
pub struct TokenReply {
    /// The access token.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds the access token is good.
    expires_in: u64,
    /// The scopes, for a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The refresh token, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// A factor to enrol in the middle of signing in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolBody {
    /// The token of the first step.
    mfa_token: String,
    /// `totp` (default), `hotp`, `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// What the person calls it.
    label: Option<String>,
    /// For `email` an address, for `sms` and `voice` a number with its country; the profile's if left out.
    destination: Option<String>,
}

/// A code to send in the middle of signing in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginChallengeBody {
    /// The token of the first step.
    mfa_token: String,
    /// `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// A factor's id, as the first step named it.
    factor: Option<String>,
    /// A challenge's id, to have another code sent for it.
    challenge: Option<String>,
}

impl LoginChallengeBody {
    fn recipient(&self) -> Result<Recipient, Invalid> {
        match (&self.kind, &self.factor, &self.challenge) {
            (None, None, Some(id)) => {
                let id = id.parse().map_err(|_| Invalid::new("challenge", "expected a challenge's id"))?;
                Ok(Recipient::Challenge(id))
            }
            (_, _, Some(_)) => {
                Err(Invalid::new("challenge", "name a type, a factor or a challenge, only one"))
            }
            (kind, factor, None) => recipient(kind.as_deref(), factor.as_deref()),
        }
    }
}

/// A token to revoke or to look into.
#[derive(Deserialize, ToSchema)]
pub struct TokenOnlyForm {
    /// The token.
    token: String,
    /// The client's id, if it does not use HTTP Basic.
    client_id: Option<String>,
    /// The client's secret, if it does not use HTTP Basic.
    client_secret: Option<String>,
    /// As at the token endpoint.
    client_assertion_type: Option<String>,
    /// As at the token endpoint.
    client_assertion: Option<String>,
}

/// What a client proves itself by in a form.
#[derive(Clone, Copy, Default)]
pub(in crate::http) struct Proof<'a> {
    /// The client's id.
    pub(in crate::http) id: Option<&'a str>,
    /// Its secret.
    pub(in crate::http) secret: Option<&'a str>,
    /// What kind of assertion it sends.
    pub(in crate::http) assertion_type: Option<&'a str>,
    /// The assertion.
    pub(in crate::http) assertion: Option<&'a str>,
}

impl TokenForm {
    fn proof(&self) -> Proof<'_> {
        Proof {
            id: self.client_id.as_deref(),
            secret: self.client_secret.as_deref(),
            assertion_type: self.client_assertion_type.as_deref(),
            assertion: self.client_assertion.as_deref(),
        }
    }
}

impl TokenOnlyForm {
    fn proof(&self) -> Proof<'_> {
        Proof {
            id: self.client_id.as_deref(),
            secret: self.client_secret.as_deref(),
            assertion_type: self.client_assertion_type.as_deref(),
            assertion: self.client_assertion.as_deref(),
        }
    }
}

/// An error in OAuth's shape (RFC 6749 §5.2).
pub struct OauthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    more: Option<Value>,
}

impl OauthError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), more: None }
    }

    pub(in crate::http) fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, description)
    }

    pub(in crate::http) fn invalid_client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "the client's proof is not right")
    }

    /// What a refused sign-in looks like, whatever the reason.
    fn refused() -> Self {
        Self::bad("invalid_grant", "the credentials are not right, used up, expired or locked")
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "error_description": self.description });
        if let (Value::Object(body), Some(Value::Object(more))) = (&mut body, self.more) {
            body.extend(more);
        }
        let mut answer = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(r#"Basic realm="countersign""#);
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

/// A failure of the token endpoint: in OAuth's shape where OAuth has a word for it.
pub enum Failure {
    /// OAuth's shape.
    Oauth(OauthError),
    /// Everything else: limits, store, bad requests.
    Problem(Problem),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Oauth(error) => error.into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

impl From<OauthError> for Failure {
    fn from(error: OauthError) -> Self {
        Self::Oauth(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Refusal::Invalid(invalid)) => {
                let error = if invalid.field == "scope" { "invalid_scope" } else { "invalid_request" };
                OauthError::bad(error, invalid.to_string()).into()
            }
            // Whether there is such a person, login or factor is not for the caller to learn here.
            Error::Refused(
                Refusal::TokenGone
                | Refusal::NoSuchFactor
                | Refusal::SecondFactorNeeded
                | Refusal::WrongState(_),
            )
            | Error::NotFound(_) => OauthError::refused().into(),
            other => Self::Problem(other.into()),
        }
    }
}

/// Issues tokens.
#[utoipa::path(
    post, path = "/oauth/token", tag = "oauth", security((), ("client" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenReply)),
)]
pub async fn token(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    headers: HeaderMap,
    Form(form): Form<TokenForm>,
) -> Result<Response, Failure> {
    let client = authenticate(&app, &info, &headers, form.proof(), |audience| is_us(&app, audience)).await?;
    match form.grant_type.as_deref() {
        Some("client_credentials") => client_credentials(&app, &info, client, &form),
        Some("password") => by_password(&app, &info, client, form).await,
        Some(MFA_GRANT) => second_step(&app, &info, &form).await,
        Some("refresh_token") => refresh(&app, &info, client, &form).await,
        Some(_) => {
            let known = format!("expected client_credentials, password, refresh_token or {MFA_GRANT}");
            Err(OauthError::bad("unsupported_grant_type", known).into())
        }
        None => Err(missing("grant_type")),
    }
}

fn client_credentials(
    app: &SharedApp,
    info: &RequestInfo,
    client: Option<AuthenticatedClient>,
    form: &TokenForm,
) -> Result<Response, Failure> {
    let client = client.ok_or_else(OauthError::invalid_client)?;
    let found = client.client().ok_or_else(OauthError::invalid_client)?;
    let (issued, scopes) =
        clients::issue_token(app, &client.organisation, found, form.scope.as_deref(), info.now)?;
    let reply = TokenReply {
        access_token: issued.token,
        token_type: "Bearer",
        expires_in: issued.life.as_secs(),
        scope: Some(Scope::list(&scopes)),
        refresh_token: None,
    };
    Ok(Json::ok(reply).into_response())
}

async fn by_password(
    app: &SharedApp,
    info: &RequestInfo,
    client: Option<AuthenticatedClient>,
    form: TokenForm,
) -> Result<Response, Failure> {
    let credentials = Credentials {
        organisation: form.organisation.into(),
        username: form.username.ok_or_else(|| missing("username"))?,
        password: Secret::new(form.password.ok_or_else(|| missing("password"))?),
        client: client.map(|client| client.id),
        session_life: None,
    };
    granted(app, info, sign_in::by_password(app, anonymous(info), credentials).await?)
}

async fn second_step(app: &SharedApp, info: &RequestInfo, form: &TokenForm) -> Result<Response, Failure> {
    let token = second_step_token(app, info, form.mfa_token.as_deref().ok_or_else(|| missing("mfa_token"))?)?;
    let code = form.code.as_deref().ok_or_else(|| missing("code"))?;
    let enrolled = match form.factor.as_deref() {
        None => None,
        Some(id) => Some(
            id.parse().map_err(|_| OauthError::bad("invalid_request", "factor: expected a factor's id"))?,
        ),
    };
    let named =
        Named { kind: form.kind.as_deref(), challenge: form.challenge.as_deref(), ..Named::default() };
    let attempt = attempt(code, named, None).map_err(Error::from)?;
    granted(app, info, sign_in::second_step(app, anonymous(info), token, attempt, enrolled).await?)
}

async fn refresh(
    app: &SharedApp,
    info: &RequestInfo,
    client: Option<AuthenticatedClient>,
    form: &TokenForm,
) -> Result<Response, Failure> {
    let token = form.refresh_token.as_deref().ok_or_else(|| missing("refresh_token"))?;
    granted(app, info, sign_in::refresh(app, anonymous(info), token, client.map(|client| client.id)).await?)
}

fn granted(app: &SharedApp, info: &RequestInfo, grant: Grant) -> Result<Response, Failure> {
    match grant {
        Grant::Tokens { pair, .. } => {
            let reply = TokenReply {
                access_token: pair.access.token,
                token_type: "Bearer",
                expires_in: pair.access.life.as_secs(),
                scope: None,
                refresh_token: Some(pair.refresh.expose().clone()),
            };
            Ok(Json::ok(reply).into_response())
        }
        Grant::SecondStep { step, life, enrolment_required, ways, .. } => {
            let token = app.tokens.issue_second_step(&step, info.now, life)?;
            Err(OauthError {
                more: Some(json!({
                    "mfa_token": token.token,
                    "expires_in": token.life.as_secs(),
                    "enrolment_required": enrolment_required,
                    "factors": ways.iter().map(way).collect::<Vec<_>>(),
                })),
                ..OauthError::bad("mfa_required", format!("finish with grant_type={MFA_GRANT}"))
            }
            .into())
        }
        Grant::Refused => Err(OauthError::refused().into()),
    }
}

/// Shows one way to finish a sign-in: enough to choose by.
fn way(way: &Way) -> Value {
    let mut shown = json!({ "type": way.kind.name() });
    if let Some((factor, label)) = &way.factor {
        shown["id"] = factor.to_string().into();
        shown["label"] = label.as_str().into();
    }
    if let Some(destination) = &way.destination {
        shown["destination"] = destination.masked().into();
    }
    shown
}

/// Enrols the first factor of somebody whose sign-in asks for a second step and who has none.
#[utoipa::path(
    post, path = "/oauth/enrol", tag = "oauth", security(()),
    request_body = EnrolBody, responses((status = 201, body = EnrolledView)),
)]
pub async fn enrol(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    Body(body): Body<EnrolBody>,
) -> Result<Json<EnrolledView>, Failure> {
    let token = second_step_token(&app, &info, &body.mfa_token)?;
    let kind = body.kind.as_deref().map_or(Ok(Kind::Totp), |kind| Kind::parse("type", kind));
    let label = body.label.as_deref().map(|label| Label::parse("label", label)).transpose();
    let kind = kind.map_err(Problem::from)?;
    let destination = destination(kind, body.destination.as_deref()).map_err(Problem::from)?;
    let enrolment = Enrolment { kind, destination, label: label.map_err(Problem::from)? };
    let enrolled = sign_in::enrol(&app, anonymous(&info), token, enrolment).await.map_err(within_login)?;
    Ok(Json::created(EnrolledView::new(&enrolled).map_err(Problem::from)?))
}

/// Sends a code to finish signing in with, or another first code for the factor enrolled during it.
#[utoipa::path(
    post, path = "/oauth/challenge", tag = "oauth", security(()),
    request_body = LoginChallengeBody, responses((status = 201, body = ChallengeView)),
)]
pub async fn challenge(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    Body(body): Body<LoginChallengeBody>,
) -> Result<Json<ChallengeView>, Failure> {
    let token = second_step_token(&app, &info, &body.mfa_token)?;
    let recipient = body.recipient().map_err(Problem::from)?;
    let sent = sign_in::challenge(&app, anonymous(&info), token, recipient).await.map_err(within_login)?;
    Ok(Json::created(ChallengeView::new(&sent, info.now)))
}

/// Revokes an access token, or ends the session of a refresh token (RFC 7009). Says nothing about what it was.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth", security(()),
    request_body(content = TokenOnlyForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200)),
)]
pub async fn revoke(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    Form(form): Form<TokenOnlyForm>,
) -> Result<StatusCode, Failure> {
    match app.tokens.access(&form.token, info.now) {
        Some(bearer) => app.store.revoke_token(bearer.id, bearer.expires_at).await?,
        None => sign_in::revoke_refresh_token(&app, anonymous(&info), &form.token).await?,
    }
    Ok(StatusCode::OK)
}

/// Tells a client about a token of its organisation (RFC 7662).
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth", security(("client" = [])),
    request_body(content = TokenOnlyForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = Object)),
)]
pub async fn introspect(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    headers: HeaderMap,
    Form(form): Form<TokenOnlyForm>,
) -> Result<Json<Value>, Failure> {
    let client = authenticate(&app, &info, &headers, form.proof(), |audience| is_us(&app, audience)).await?;
    let client = client.ok_or_else(OauthError::invalid_client)?;
    Ok(Json::ok(
        describe(&app, &info, &client, &form.token).await?.unwrap_or_else(|| json!({ "active": false })),
    ))
}

async fn describe(
    app: &SharedApp,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    token: &str,
) -> Result<Option<Value>, Error> {
    let Some(bearer) = app.tokens.access(token, info.now) else { return Ok(None) };
    app.store.check_news()?;
    if bearer.organisation != client.organisation.id || app.store.is_revoked(bearer.id) {
        return Ok(None);
    }
    let mut description = json!({
        "active": true,
        "iss": app.tokens.issuer(),
        "token_type": "Bearer",
        "iat": bearer.issued_at.seconds(),
        "exp": bearer.expires_at.seconds(),
        "jti": bearer.id,
        "org": bearer.organisation,
    });
    match &bearer.holder {
        Holder::Client(id, scopes) => {
            let Some(holder) = client.organisation.client(*id) else { return Ok(None) };
            if !holder.honours_token_of(bearer.issued_at) {
                return Ok(None);
            }
            let scopes = scopes.intersection(&holder.scopes).copied().collect();
            description["sub"] = json!(id);
            description["client_id"] = json!(id);
            description["scope"] = json!(Scope::list(&scopes));
        }
        Holder::Person(id, session) => {
            let user = app.store.user(bearer.organisation, *id).await?;
            let Some(user) = user.filter(|user| user.status == Status::Active) else { return Ok(None) };
            let Some(open) = user.session(*session, info.now) else { return Ok(None) };
            description["sub"] = json!(id);
            description["username"] = json!(user.username.as_str());
            description["sid"] = json!(session);
            description["amr"] = json!(open.amr);
            description["auth_time"] = json!(open.created_at.seconds());
        }
    }
    Ok(Some(description))
}

/// Returns the public keys that check our tokens.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "oauth", security(()), responses((status = 200, body = Object)),
)]
pub async fn jwks(State(app): State<SharedApp>) -> Response {
    cacheable(app.tokens.jwks())
}

/// Returns the server's metadata (RFC 8414).
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "oauth", security(()),
    responses((status = 200, body = Object)),
)]
pub async fn metadata(State(app): State<SharedApp>) -> Response {
    let issuer = app.tokens.issuer();
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
    cacheable(json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "introspection_endpoint": format!("{issuer}/oauth/introspect"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials", "password", "refresh_token", MFA_GRANT],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
        "introspection_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
        "scopes_supported": scopes,
        "service_documentation": format!("{issuer}/docs"),
    }))
}

/// Public facts may be cached for a while.
fn cacheable(body: Value) -> Response {
    let mut answer = axum::Json(body).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    answer
}

fn second_step_token(
    app: &SharedApp,
    info: &RequestInfo,
    token: &str,
) -> Result<SecondStepToken, OauthError> {
    app.tokens.second_step(token, info.now).ok_or_else(OauthError::refused)
}

/// What goes wrong within a sign-in: its token may be over, and looks then like one that never was.
fn within_login(error: Error) -> Failure {
    match error {
        Error::Refused(Refusal::TokenGone) => OauthError::refused().into(),
        other => Failure::Problem(other.into()),
    }
}

fn missing(name: &str) -> Failure {
    OauthError::bad("invalid_request", format!("{name} is required")).into()
}

/// Recognises the client, by HTTP Basic, by the form or by what it signed. Who names none is none; who names one must
/// prove it, in one way.
pub(in crate::http) async fn authenticate(
    app: &SharedApp,
    info: &RequestInfo,
    headers: &HeaderMap,
    proof: Proof<'_>,
    is_for_us: impl Fn(&str) -> bool,
) -> Result<Option<AuthenticatedClient>, Failure> {
    let header = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let client = match (header, proof) {
        (None, Proof { id: None, secret: None, assertion_type: None, assertion: None }) => return Ok(None),
        (Some(header), Proof { id: None, secret: None, assertion: None, .. }) => {
            let pair = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
            let pair = pair.and_then(|(_, pair)| basic(pair.trim()));
            let (id, secret) = pair.ok_or_else(OauthError::invalid_client)?;
            AuthenticatedClient::check(app, &id, &secret, info.now).await?
        }
        (None, Proof { id: Some(id), secret: Some(secret), assertion: None, .. }) => {
            AuthenticatedClient::check(app, id, secret, info.now).await?
        }
        (None, Proof { id, secret: None, assertion_type: Some(kind), assertion: Some(assertion) }) => {
            by_assertion(app, info, id, kind, assertion, is_for_us).await?
        }
        (Some(_), _) | (None, Proof { secret: Some(_), assertion: Some(_), .. }) => {
            return Err(OauthError::bad("invalid_request", "name the client once").into());
        }
        (None, _) => None,
    };
    Ok(Some(client.ok_or_else(OauthError::invalid_client)?))
}

/// Recognises a client by its assertion; an id beside it must be the same (RFC 7521 §4.2).
async fn by_assertion(
    app: &SharedApp,
    info: &RequestInfo,
    id: Option<&str>,
    kind: &str,
    assertion: &str,
    is_for_us: impl Fn(&str) -> bool,
) -> Result<Option<AuthenticatedClient>, Failure> {
    if kind != JWT_BEARER {
        return Err(OauthError::bad(
            "invalid_request",
            format!("client_assertion_type: expected {JWT_BEARER}"),
        )
        .into());
    }
    let client = AuthenticatedClient::by_assertion(app, assertion, is_for_us, info.now).await?;
    Ok(client.filter(|client| id.is_none_or(|id| id.parse() == Ok(client.id))))
}

/// Tells whether an assertion for this audience is for us: the server or its token endpoint (RFC 7523 §3).
fn is_us(app: &SharedApp, audience: &str) -> bool {
    audience.strip_prefix(app.tokens.issuer()).is_some_and(|path| matches!(path, "" | "/" | "/oauth/token"))
}
