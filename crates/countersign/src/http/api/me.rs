//! `/v1/me`: what a signed-in person does for themselves. The same use cases as for others, with the person's own reach.

use super::{
    List,
    factors::{
        CodeBody, EnrolledView, FactorPatchBody, FactorView, NewFactorBody, ResyncBody, activated, factor_id,
        qr_image, resynchronised, views,
    },
    locks::LocksView,
    recovery::{NewRecoveryCodes, RecoveryStatus},
    users::{ResetBody, UserView},
};
use crate::{
    http::{
        SharedApp,
        caller::Myself,
        extract::{Body, Json, OptionalBody, Segments},
        problem::Problem,
    },
    service::{factors, recovery, sign_in, users},
};
use axum::{extract::State, response::Response};
use countersign_core::Secret;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordBody {
    /// The password until now.
    current: String,
    /// The password from now on: 12 to 128 characters, of any kind; common ones are refused.
    new: String,
}

/// Returns the signed-in person.
#[utoipa::path(
    get, path = "/v1/me", tag = "me", security(("token" = ["self"])),
    responses((status = 200, body = UserView)),
)]
pub async fn get(me: Myself, State(app): State<SharedApp>) -> Result<Json<UserView>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(UserView::new(&user, me.asker.call.now)))
}

/// Lists one's own factors.
#[utoipa::path(
    get, path = "/v1/me/factors", tag = "me", security(("token" = ["self"])),
    responses((status = 200, body = List<FactorView>)),
)]
pub async fn factors(me: Myself, State(app): State<SharedApp>) -> Result<Json<List<FactorView>>, Problem> {
    Ok(Json::ok(views(&users::get(&app, &me.asker, &me.handle()).await?)))
}

/// Enrols a factor of one's own. The answer shows its secret once; it waits for its first code.
#[utoipa::path(
    post, path = "/v1/me/factors", tag = "me", security(("token" = ["self"])),
    request_body = NewFactorBody, responses((status = 201, body = EnrolledView)),
)]
pub async fn enrol(
    me: Myself,
    State(app): State<SharedApp>,
    Body(body): Body<NewFactorBody>,
) -> Result<Json<EnrolledView>, Problem> {
    let enrolled = factors::enrol(&app, &me.asker, &me.handle(), body.own_enrolment()?).await?;
    Ok(Json::created(EnrolledView::new(&enrolled)?))
}

/// Returns a factor of one's own.
#[utoipa::path(
    get, path = "/v1/me/factors/{factor}", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    responses((status = 200, body = FactorView)),
)]
pub async fn factor(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
) -> Result<Json<FactorView>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(user.factor(factor_id(&factor)?)?.into()))
}

/// Renames, disables or enables a factor of one's own.
#[utoipa::path(
    patch, path = "/v1/me/factors/{factor}", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    request_body = FactorPatchBody, responses((status = 200, body = FactorView)),
)]
pub async fn update_factor(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
    Body(body): Body<FactorPatchBody>,
) -> Result<Json<FactorView>, Problem> {
    let (label, enabled) = body.change()?;
    let factor = factors::update(&app, &me.asker, &me.handle(), factor_id(&factor)?, label, enabled).await?;
    Ok(Json::ok((&factor).into()))
}

/// Deletes a factor of one's own.
#[utoipa::path(
    delete, path = "/v1/me/factors/{factor}", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    responses((status = 204)),
)]
pub async fn delete_factor(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
) -> Result<StatusCode, Problem> {
    factors::delete(&app, &me.asker, &me.handle(), factor_id(&factor)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Activates a factor of one's own by its first code, which is used up.
#[utoipa::path(
    post, path = "/v1/me/factors/{factor}/activate", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    request_body = CodeBody, responses((status = 200, body = FactorView)),
)]
pub async fn activate(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
    Body(body): Body<CodeBody>,
) -> Result<Json<FactorView>, Problem> {
    let factor = factor_id(&factor)?;
    activated(factors::activate(&app, &me.asker, &me.handle(), factor, body.code()?).await?)
}

/// Finds the counter of a token of one's own again from two consecutive codes.
#[utoipa::path(
    post, path = "/v1/me/factors/{factor}/resync", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    request_body = ResyncBody, responses((status = 200, body = FactorView)),
)]
pub async fn resynchronise(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
    Body(body): Body<ResyncBody>,
) -> Result<Json<FactorView>, Problem> {
    let factor = factor_id(&factor)?;
    resynchronised(factors::resynchronise(&app, &me.asker, &me.handle(), factor, body.codes()?).await?)
}

/// Shows the QR code of a factor of one's own that waits for its first code: SVG, or PNG by `Accept`.
#[utoipa::path(
    get, path = "/v1/me/factors/{factor}/qr", tag = "me", security(("token" = ["self"])),
    params(("factor" = String, Path, description = "the factor's id")),
    responses((status = 200, content((String = "image/svg+xml"), (Vec<u8> = "image/png")))),
)]
pub async fn qr(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(factor): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let uri = factors::pending_uri(&app, &me.asker, &me.handle(), factor_id(&factor)?).await?;
    qr_image(&uri, &headers)
}

/// Shows what one has of recovery codes.
#[utoipa::path(
    get, path = "/v1/me/recovery-codes", tag = "me", security(("token" = ["self"])),
    responses((status = 200, body = RecoveryStatus)),
)]
pub async fn recovery_codes(
    me: Myself,
    State(app): State<SharedApp>,
) -> Result<Json<RecoveryStatus>, Problem> {
    let codes = recovery::codes(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(RecoveryStatus::new(codes.as_ref())))
}

/// Draws a new set of recovery codes in place of the one before. The answer shows them once.
#[utoipa::path(
    post, path = "/v1/me/recovery-codes", tag = "me", security(("token" = ["self"])),
    responses((status = 201, body = NewRecoveryCodes)),
)]
pub async fn replace_recovery_codes(
    me: Myself,
    State(app): State<SharedApp>,
) -> Result<Json<NewRecoveryCodes>, Problem> {
    let codes = recovery::replace_codes(&app, &me.asker, &me.handle()).await?;
    Ok(Json::created(NewRecoveryCodes::new(&codes, me.asker.call.now)))
}

/// Shows what is locked of one's own methods.
#[utoipa::path(
    get, path = "/v1/me/locks", tag = "me", security(("token" = ["self"])),
    responses((status = 200, body = LocksView)),
)]
pub async fn locks(me: Myself, State(app): State<SharedApp>) -> Result<Json<LocksView>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(LocksView::new(&user, me.asker.call.now)))
}

/// Deletes all of one's own factors, codes and sessions, this one too; or the factors of one kind.
#[utoipa::path(
    post, path = "/v1/me/reset", tag = "me", security(("token" = ["self"])),
    request_body = Option<ResetBody>, responses((status = 200, body = UserView)),
)]
pub async fn reset(
    me: Myself,
    State(app): State<SharedApp>,
    OptionalBody(body): OptionalBody<ResetBody>,
) -> Result<Json<UserView>, Problem> {
    let user = users::reset(&app, &me.asker, &me.handle(), body.kind()?).await?;
    Ok(Json::ok(UserView::new(&user, me.asker.call.now)))
}

/// Switches the caller's own second factor off.
#[utoipa::path(
    delete, path = "/v1/me/mfa", tag = "me", security(("token" = ["self"])),
    responses((status = 204)),
)]
pub async fn switch_off_mfa(me: Myself, State(app): State<SharedApp>) -> Result<StatusCode, Problem> {
    users::switch_off_mfa(&app, &me.asker, &me.handle()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes one's own password, and ends all other sessions.
#[utoipa::path(
    post, path = "/v1/me/password", tag = "me", security(("token" = ["self"])),
    request_body = PasswordBody, responses((status = 204)),
)]
pub async fn change_password(
    me: Myself,
    State(app): State<SharedApp>,
    Body(body): Body<PasswordBody>,
) -> Result<StatusCode, Problem> {
    let current = Secret::new(body.current);
    if sign_in::change_password(&app, &me.asker, me.id, me.session, current, body.new).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = "this is not the current password, or too many wrong ones came before";
    Err(Problem::invalid("password_rejected", Some("current".into()), detail))
}

/// Signs out: ends this session.
#[utoipa::path(
    delete, path = "/v1/me/session", tag = "me", security(("token" = ["self"])),
    responses((status = 204)),
)]
pub async fn sign_out(me: Myself, State(app): State<SharedApp>) -> Result<StatusCode, Problem> {
    sign_in::sign_out(&app, &me.asker, me.id, me.session).await?;
    Ok(StatusCode::NO_CONTENT)
}
