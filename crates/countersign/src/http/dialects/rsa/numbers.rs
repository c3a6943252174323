//! Update SMS and Voice Phone.

use super::{body, caller::Admin, view};
use crate::{
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw, Segments},
        problem::Problem,
    },
    service::numbers,
};
use axum::extract::State;
use countersign_core::{Kind, UserId, profile::Phone, refusal::Invalid};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NumbersBody {
    sms_number: Option<String>,
    voice_number: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NumbersView {
    id: UserId,
    sms_number: String,
    voice_number: String,
}

pub(super) async fn set(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    raw: Raw,
) -> Result<Json<NumbersView>, Problem> {
    let id = body::user_id(&user)?;
    let body: NumbersBody = body::read(&raw)?;
    let sms = body.sms_number.map(|text| said("smsNumber", &text)).transpose()?;
    let voice = body.voice_number.map(|text| said("voiceNumber", &text)).transpose()?;
    if sms.is_none() && voice.is_none() {
        return Err(Invalid::new("smsNumber", "expected smsNumber, voiceNumber or both").into());
    }

    let user = numbers::set(&app, &who.asker, id, sms, voice).await.map_err(body::within_policy)?;
    let number = |kind| view::number_of(&user, kind).unwrap_or_default();
    Ok(Json::ok(NumbersView { id, sms_number: number(Kind::Sms), voice_number: number(Kind::Voice) }))
}

/// An empty number is none.
fn said(field: &str, text: &str) -> Result<Option<Phone>, Invalid> {
    if text.trim().is_empty() { Ok(None) } else { Phone::parse(field, text).map(Some) }
}
