//! `/v1/verify`: checking a code somebody typed.

use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Body, Json},
        problem::Problem,
    },
    service::verification,
};
use axum::extract::State;
use countersign_core::{
    Attempt, Code, FactorId, Handle, Kind, RequestId, Target, UserId, Verdict, lock::Until, refusal::Invalid,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A code to check.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyBody {
    /// The person's id, number or username.
    user: String,
    /// What they typed. Blanks, hyphens and full-width digits do not matter.
    #[schema(example = "123456")]
    code: String,
    /// `totp`, `hotp`, `email`, `sms`, `voice`, `recovery` or `emergency`; left out, the code is tried against every OTP factor, as one attempt.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The factor it is meant for.
    factor: Option<String>,
    /// The challenge whose code it is.
    challenge: Option<String>,
    /// Your own name for this attempt, at most 64 characters: a retry with it gets the first answer again, for 5 minutes.
    request_id: Option<String>,
}

/// What the check found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReply {
    /// `accepted`, `rejected`, `locked`, `replayed`, `expired` or `no_factor`. Only `accepted` lets somebody in.
    result: &'static str,
    /// The person's id.
    #[schema(value_type = uuid::Uuid)]
    user: UserId,
    /// The factor that was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    factor: Option<FactorId>,
    /// Its kind.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// Authentication method references (RFC 8176) for your tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<&'static [&'static str]>,
    /// Why it was rejected: `wrong_code` or `user_disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Failures that remain before the method locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_left: Option<u32>,
    /// The method that is locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    /// Until when; left out if until somebody unlocks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_until: Option<String>,
}

impl VerifyReply {
    fn new(user: UserId, verdict: &Verdict) -> Self {
        let mut reply = Self {
            result: verdict.name(),
            user,
            factor: None,
            kind: None,
            amr: None,
            reason: None,
            attempts_left: None,
            method: None,
            locked_until: None,
        };
        match verdict {
            Verdict::Accepted { factor, kind } => {
                reply.factor = *factor;
                reply.kind = Some(kind.name());
                reply.amr = Some(kind.amr());
            }
            Verdict::Rejected { reason, attempts_left } => {
                reply.reason = Some(reason.name());
                reply.attempts_left = Some(*attempts_left);
            }
            Verdict::Locked { method, until } => {
                reply.method = Some(method.name());
                reply.locked_until = match until {
                    Until::Time(at) => Some(at.to_string()),
                    Until::Unlocked => None,
                };
            }
            Verdict::Replayed | Verdict::Expired | Verdict::NoFactor => {}
        }
        reply
    }
}

/// Checks a code somebody typed.
#[utoipa::path(
    post, path = "/v1/verify", tag = "verify", security(("token" = ["verify"])),
    request_body = VerifyBody, responses((status = 200, body = VerifyReply)),
)]
pub async fn verify(
    who: May<permit::Verify>,
    State(app): State<SharedApp>,
    Body(body): Body<VerifyBody>,
) -> Result<Json<VerifyReply>, Problem> {
    let handle = Handle::parse("user", &body.user)?;
    let named = Named {
        kind: body.kind.as_deref(),
        factor: body.factor.as_deref(),
        challenge: body.challenge.as_deref(),
    };
    let attempt = attempt(&body.code, named, body.request_id.as_deref())?;
    let (user, verdict) = verification::verify(&app, &who.asker, &handle, attempt).await?;
    Ok(Json::ok(VerifyReply::new(user, &verdict)))
}

/// What a caller names to say what a code is meant for; at most one of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// A kind of code.
    pub kind: Option<&'a str>,
    /// A factor's id.
    pub factor: Option<&'a str>,
    /// A challenge's id.
    pub challenge: Option<&'a str>,
}

impl Named<'_> {
    fn target(self) -> Result<Target, Invalid> {
        match (self.kind, self.factor, self.challenge) {
            (None, None, None) => Ok(Target::AnyOtp),
            (Some(kind), None, None) => Ok(Target::Kind(Kind::parse("type", kind)?)),
            (None, Some(factor), None) => {
                let factor = factor.parse().map_err(|_| Invalid::new("factor", "expected a factor's id"))?;
                Ok(Target::Factor(factor))
            }
            (None, None, Some(id)) => {
                let id = id.parse().map_err(|_| Invalid::new("challenge", "expected a challenge's id"))?;
                Ok(Target::Challenge(id))
            }
            (_, _, Some(_)) => {
                Err(Invalid::new("challenge", "name a type, a factor or a challenge, only one"))
            }
            _ => Err(Invalid::new("factor", "name a type or a factor, not both")),
        }
    }
}

/// Reads an attempt from its members.
pub fn attempt(code: &str, named: Named<'_>, request_id: Option<&str>) -> Result<Attempt, Invalid> {
    let target = named.target()?;
    let request = request_id.map(|id| RequestId::parse("requestId", id)).transpose()?;
    Ok(Attempt { request, ..Attempt::new(Code::parse("code", code)?, target) })
}
