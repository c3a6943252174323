//! `/v1/users/{user}/factors`: what a person can prove possession of.

use super::{List, Paging, challenges::ChallengeView};
use crate::{
    error::Result as ServiceResult,
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Body, Json, Parameters, Segments, handle, id},
        problem::Problem,
    },
    qr::QrCode,
    service::factors::{self, Activated, Enrolled, Enrolment, Import, Shown},
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{
    Code, Destination, Factor, FactorId, Kind, Method, Secret, User,
    challenge::CODE_DIGITS,
    enrolment::Resync,
    factor::{
        Proof,
        otp::{Algorithm, OtpSecret},
    },
    lock::Until,
    profile::Label,
    refusal::Invalid,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A factor. Its secret never shows again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FactorView {
    /// The id.
    #[schema(value_type = uuid::Uuid)]
    id: FactorId,
    /// The kind: `totp`, `hotp`, `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What the person calls it.
    label: String,
    /// `pending` (waits for its first code), `active` or `disabled`.
    state: &'static str,
    /// `SHA1`, `SHA256` or `SHA512`, where codes are computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    /// Digits of a code.
    digits: u8,
    /// Where codes are sent, as much as may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    /// The time step in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u8>,
    /// The next counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<u64>,
    /// When it was enrolled.
    created_at: String,
    /// When its first code came.
    #[serde(skip_serializing_if = "Option::is_none")]
    activated_at: Option<String>,
    /// When it last proved possession.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    /// When it lapses, while it waits for its first code.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl From<&Factor> for FactorView {
    fn from(factor: &Factor) -> Self {
        let proof = factor.proof();
        let (algorithm, digits, period, counter) = match proof {
            Proof::Totp(totp) => (Some(totp.algorithm), totp.digits, Some(totp.period), None),
            Proof::Hotp(hotp) => (Some(hotp.algorithm), hotp.digits, None, Some(hotp.counter)),
            Proof::Sent(_) => (None, CODE_DIGITS as u8, None, None),
        };
        let usage = factor.usage();
        Self {
            id: factor.id(),
            kind: factor.kind().name(),
            label: factor.label().to_string(),
            state: factor.state(),
            algorithm: algorithm.map(Algorithm::name),
            digits,
            destination: proof.destination().map(Destination::masked),
            period,
            counter,
            created_at: factor.created_at().to_string(),
            activated_at: usage.map(|usage| usage.activated_at.to_string()),
            last_used_at: usage.and_then(|usage| usage.last_used_at).map(|at| at.to_string()),
            expires_at: match factor {
                Factor::Pending(held) => Some(held.state.expires_at.to_string()),
                Factor::Active(_) | Factor::Disabled(_) => None,
            },
        }
    }
}

/// A factor just enrolled, with what its person gets to see once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnrolledView {
    /// The factor.
    #[serde(flatten)]
    factor: FactorView,
    /// The seed in Base32, for typing.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The key URI that the QR code shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    otpauth_uri: Option<String>,
    /// The QR code as a data URI (PNG).
    #[serde(skip_serializing_if = "Option::is_none")]
    qr: Option<String>,
    /// The code that was sent, where codes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<ChallengeView>,
}

impl EnrolledView {
    /// Shows a fresh enrolment.
    pub fn new(enrolled: &Enrolled) -> ServiceResult<Self> {
        let view = Self::imported(&enrolled.factor);
        Ok(match &enrolled.shown {
            Shown::Key { secret, uri } => Self {
                secret: Some(secret.expose().clone()),
                qr: Some(QrCode::new(uri.expose())?.data_uri()?),
                otpauth_uri: Some(uri.expose().clone()),
                ..view
            },
            Shown::Challenge(sent) => {
                Self { challenge: Some(ChallengeView::new(sent, sent.challenge.sent_at)), ..view }
            }
        })
    }

    fn imported(factor: &Factor) -> Self {
        let factor = FactorView::from(factor);
        Self { factor, secret: None, otpauth_uri: None, qr: None, challenge: None }
    }
}

/// A factor to enrol, or to bring in with a known seed or destination.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewFactorBody {
    /// `totp`, `hotp`, `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    #[schema(example = "totp")]
    kind: String,
    /// What the person calls it.
    label: Option<String>,
    /// For `email` an address, for `sms` and `voice` a number with its country; the profile's if left out.
    #[schema(example = "+4915112345678")]
    destination: Option<String>,
    /// With a destination that you know to be the person's: the factor is active at once, and no code is sent.
    confirmed: Option<bool>,
    /// A known seed in Base32: the factor is active at once.
    secret: Option<String>,
    /// With `secret`: `SHA1`, `SHA256` or `SHA512`.
    algorithm: Option<String>,
    /// With `secret`: 6 to 8.
    digits: Option<u8>,
    /// With `secret`, for TOTP: 15 to 60 seconds.
    period: Option<u8>,
    /// With `secret`, for HOTP: the next counter.
    counter: Option<u64>,
}

impl NewFactorBody {
    /// Reads an enrolment; `Err` names members that only go with a known seed.
    pub fn enrolment(&self) -> Result<Enrolment, Invalid> {
        let only_with_secret = [
            ("algorithm", self.algorithm.is_some()),
            ("digits", self.digits.is_some()),
            ("period", self.period.is_some()),
            ("counter", self.counter.is_some()),
        ];
        if let Some((name, _)) = only_with_secret.iter().find(|(_, given)| *given) {
            return Err(Invalid::new(
                *name,
                "goes with secret only; new factors follow the organisation's policy",
            ));
        }
        let kind = Kind::parse("type", &self.kind)?;
        let destination = destination(kind, self.destination.as_deref())?;
        Ok(Enrolment { kind, destination, label: label(self.label.as_deref())? })
    }

    /// Reads a factor whose destination is known to be the person's; `None` if that is not said.
    fn confirmed(&self) -> Result<Option<Enrolment>, Invalid> {
        let enrolment = self.enrolment()?;
        match self.confirmed {
            Some(true) if enrolment.kind.channel().is_none() => Err(Invalid::new(
                "confirmed",
                "goes with email, sms and voice only; a known seed goes in secret",
            )),
            Some(true) => Ok(Some(enrolment)),
            Some(false) | None => Ok(None),
        }
    }

    fn import(&self, secret: &str) -> Result<Import, Invalid> {
        if self.destination.is_some() {
            return Err(Invalid::new(
                "destination",
                "goes without secret: codes are sent, or computed from a seed",
            ));
        }
        Ok(Import {
            kind: Kind::parse("type", &self.kind)?,
            label: label(self.label.as_deref())?,
            secret: OtpSecret::from_base32("secret", secret)?,
            algorithm: self
                .algorithm
                .as_deref()
                .map(|name| Algorithm::parse("algorithm", name))
                .transpose()?,
            digits: self.digits,
            period: self.period,
            counter: self.counter,
        })
    }

    /// Reads an enrolment by the person themselves, who cannot choose the seed (ASVS 5.0 6.4.6).
    pub fn own_enrolment(&self) -> Result<Enrolment, Invalid> {
        if self.confirmed == Some(true) {
            return Err(Invalid::new("confirmed", "only an administrator can vouch for a destination"));
        }
        match self.secret {
            Some(_) => Err(Invalid::new("secret", "only an administrator can bring in a known seed")),
            None => self.enrolment(),
        }
    }
}

/// Reads where the codes of a kind are to go.
pub fn destination(kind: Kind, text: Option<&str>) -> Result<Option<Destination>, Invalid> {
    match (kind.channel(), text) {
        (_, None) => Ok(None),
        (Some(channel), Some(text)) => Destination::parse(channel, "destination", text).map(Some),
        (None, Some(_)) => Err(Invalid::new("destination", "goes with email, sms and voice only")),
    }
}

fn label(text: Option<&str>) -> Result<Option<Label>, Invalid> {
    text.map(|text| Label::parse("label", text)).transpose()
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeBody {
    /// What the factor shows now.
    #[schema(example = "123456")]
    code: String,
}

impl CodeBody {
    /// Reads the code.
    pub fn code(&self) -> Result<Code, Invalid> {
        Code::parse("code", &self.code)
    }
}

/// Two consecutive codes.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResyncBody {
    /// What the token shows, and what it shows next.
    codes: [String; 2],
}

impl ResyncBody {
    /// Reads the codes.
    pub fn codes(&self) -> Result<[Code; 2], Invalid> {
        Ok([Code::parse("codes[0]", &self.codes[0])?, Code::parse("codes[1]", &self.codes[1])?])
    }
}

/// What to change of a factor.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FactorPatchBody {
    /// Another label.
    label: Option<String>,
    /// `active` or `disabled`.
    state: Option<String>,
}

impl FactorPatchBody {
    /// Reads the change: a label, and whether to switch on or off.
    pub fn change(&self) -> Result<(Option<Label>, Option<bool>), Invalid> {
        let enabled = match self.state.as_deref() {
            None => None,
            Some("active") => Some(true),
            Some("disabled") => Some(false),
            Some(_) => return Err(Invalid::new("state", "expected active or disabled")),
        };
        Ok((label(self.label.as_deref())?, enabled))
    }
}

/// Lists a person's factors.
#[utoipa::path(
    get, path = "/v1/users/{user}/factors", tag = "factors", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 200, body = List<FactorView>)),
)]
pub async fn list(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<List<FactorView>>, Problem> {
    paging.check_whole()?;
    let user = app.user(who.asker.organisation.id, &handle(&user)?).await?;
    Ok(Json::ok(views(&user)))
}

/// Shows all of a person's factors.
pub fn views(user: &User) -> List<FactorView> {
    List::whole(user.factors.iter().map(FactorView::from).collect())
}

/// Enrols a factor. The answer shows its secret once; it waits for its first code.
#[utoipa::path(
    post, path = "/v1/users/{user}/factors", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = NewFactorBody, responses((status = 201, body = EnrolledView)),
)]
pub async fn enrol(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    Body(body): Body<NewFactorBody>,
) -> Result<Json<EnrolledView>, Problem> {
    let handle = handle(&user)?;
    if let Some(secret) = &body.secret {
        let factor = factors::import(&app, &who.asker, &handle, body.import(secret)?).await?;
        return Ok(Json::created(EnrolledView::imported(&factor)));
    }
    if let Some(confirmed) = body.confirmed()? {
        let factor = factors::import_sent(&app, &who.asker, &handle, confirmed).await?;
        return Ok(Json::created(EnrolledView::imported(&factor)));
    }
    let enrolled = factors::enrol(&app, &who.asker, &handle, body.enrolment()?).await?;
    Ok(Json::created(EnrolledView::new(&enrolled)?))
}

/// Returns a factor.
#[utoipa::path(
    get, path = "/v1/users/{user}/factors/{factor}", tag = "factors", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    responses((status = 200, body = FactorView)),
)]
pub async fn get(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
) -> Result<Json<FactorView>, Problem> {
    let user = app.user(who.asker.organisation.id, &handle(&user)?).await?;
    Ok(Json::ok(user.factor(factor_id(&factor)?)?.into()))
}

/// Renames, disables or enables a factor.
#[utoipa::path(
    patch, path = "/v1/users/{user}/factors/{factor}", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    request_body = FactorPatchBody, responses((status = 200, body = FactorView)),
)]
pub async fn update(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
    Body(body): Body<FactorPatchBody>,
) -> Result<Json<FactorView>, Problem> {
    let (label, enabled) = body.change()?;
    let factor =
        factors::update(&app, &who.asker, &handle(&user)?, factor_id(&factor)?, label, enabled).await?;
    Ok(Json::ok((&factor).into()))
}

/// Deletes a factor.
#[utoipa::path(
    delete, path = "/v1/users/{user}/factors/{factor}", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    responses((status = 204)),
)]
pub async fn delete(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    factors::delete(&app, &who.asker, &handle(&user)?, factor_id(&factor)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Activates a waiting factor by its first code, which is used up.
#[utoipa::path(
    post, path = "/v1/users/{user}/factors/{factor}/activate", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    request_body = CodeBody, responses((status = 200, body = FactorView)),
)]
pub async fn activate(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
    Body(body): Body<CodeBody>,
) -> Result<Json<FactorView>, Problem> {
    let factor = factor_id(&factor)?;
    activated(factors::activate(&app, &who.asker, &handle(&user)?, factor, body.code()?).await?)
}

/// Shows what a first code led to.
pub fn activated(outcome: Activated) -> Result<Json<FactorView>, Problem> {
    match outcome {
        Activated::Factor(factor) => Ok(Json::ok(factor.as_ref().into())),
        Activated::Rejected { attempts_left } => {
            let detail = "the code is not the one the factor shows now, or the newest one that was sent";
            Err(Problem::invalid("code_rejected", Some("code".into()), detail)
                .attempts_left(attempts_left.into()))
        }
        Activated::Expired => Err(Problem::new(
            StatusCode::GONE,
            "enrolment_expired",
            "it waited too long; ask for another code, or enrol the factor again",
        )),
    }
}

/// Finds a HOTP token's counter again from two consecutive codes.
#[utoipa::path(
    post, path = "/v1/users/{user}/factors/{factor}/resync", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    request_body = ResyncBody, responses((status = 200, body = FactorView)),
)]
pub async fn resynchronise(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
    Body(body): Body<ResyncBody>,
) -> Result<Json<FactorView>, Problem> {
    let factor = factor_id(&factor)?;
    resynchronised(factors::resynchronise(&app, &who.asker, &handle(&user)?, factor, body.codes()?).await?)
}

/// Shows what two consecutive codes led to.
pub fn resynchronised((outcome, factor): (Resync, Factor)) -> Result<Json<FactorView>, Problem> {
    match outcome {
        Resync::Found => Ok(Json::ok((&factor).into())),
        Resync::Rejected { attempts_left } => {
            let detail = "the codes do not follow each other within the window";
            Err(Problem::invalid("code_rejected", Some("codes".into()), detail).attempts_left(attempts_left))
        }
        Resync::Locked(until) => {
            let when = match until {
                Until::Time(at) => format!("until {at}"),
                Until::Unlocked => "until it is unlocked".into(),
            };
            let detail = format!("the method {} is locked {when}", Method::Token);
            Err(Problem::new(StatusCode::CONFLICT, "method_locked", detail))
        }
    }
}

/// Shows the QR code of a factor that waits for its first code: SVG, or PNG by `Accept`.
#[utoipa::path(
    get, path = "/v1/users/{user}/factors/{factor}/qr", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username"), ("factor" = String, Path, description = "the factor's id")),
    responses((status = 200, content((String = "image/svg+xml"), (Vec<u8> = "image/png")))),
)]
pub async fn qr(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, factor)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let uri = factors::pending_uri(&app, &who.asker, &handle(&user)?, factor_id(&factor)?).await?;
    qr_image(&uri, &headers)
}

/// Draws a QR code in the form the caller prefers.
pub fn qr_image(uri: &Secret<String>, headers: &HeaderMap) -> Result<Response, Problem> {
    let code = QrCode::new(uri.expose())?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let (kind, image) = match preferred_image(accept) {
        Some("image/png") => ("image/png", code.png()?),
        Some(_) => ("image/svg+xml", code.svg().into_bytes()),
        None => {
            let detail = "the QR code comes as image/svg+xml or image/png";
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail));
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], image).into_response())
}

/// Picks the first type in `Accept` that we have. Weights are ignored: the order is what clients mean by it here.
fn preferred_image(accept: &str) -> Option<&'static str> {
    accept.split(',').find_map(|range| match range.split(';').next().unwrap_or_default().trim() {
        "image/png" => Some("image/png"),
        "image/svg+xml" | "image/*" | "*/*" => Some("image/svg+xml"),
        _ => None,
    })
}

/// Reads the `{factor}` segment.
pub fn factor_id(segment: &str) -> Result<FactorId, Problem> {
    id(segment, "factor_not_found")
}
