//! The presets: providers' published interfaces, described as an operator would describe them.

use crate::config::delivery::http::{HttpProvider, Preset};
use countersign_core::Channel;
use std::{collections::HashMap, sync::LazyLock};

/// The descriptions, by preset and channel.
static PRESETS: LazyLock<HashMap<String, HashMap<String, HttpProvider>>> =
    LazyLock::new(|| toml::from_str(include_str!("presets.toml")).expect("a test reads the same file"));

/// Returns the provider with what its preset fills in; `None` if the preset does not serve the channel.
pub(super) fn filled(given: &HttpProvider, channel: Channel) -> Option<HttpProvider> {
    if given.preset == Preset::Generic {
        return Some(given.clone());
    }
    let preset = PRESETS.get(given.preset.name())?.get(channel.name())?.clone();
    let given = given.clone();
    Some(HttpProvider {
        url: given.url.or(preset.url),
        path: given.path.or(preset.path),
        method: given.method.or(preset.method),
        query: if given.query.is_empty() { preset.query } else { given.query },
        // Together, so that one header more does not cost the preset's own.
        headers: preset.headers.into_iter().chain(given.headers).collect(),
        body: given.body.or(preset.body),
        content_type: given.content_type.or(preset.content_type),
        auth: given.auth.or(preset.auth),
        service: given.service.or(preset.service),
        success: given.success.or(preset.success),
        permanent: given.permanent.or(preset.permanent),
        reference: given.reference.or(preset.reference),
        error: given.error.or(preset.error),
        ..given
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_what_the_preset_says() {
        let given: HttpProvider = toml::from_str(
            r#"
            preset = "messagebird"
            url = "https://sms.example.com"
            headers = { X-Team = "identity" }
            "#,
        )
        .expect("a provider");

        let filled = filled(&given, Channel::Sms).expect("a preset");

        assert_eq!(filled.url.as_deref(), Some("https://sms.example.com"));
        assert_eq!(filled.path.as_deref(), Some("/messages"));
        assert_eq!(filled.headers.keys().collect::<Vec<_>>(), ["Accept", "Authorization", "X-Team"]);
    }

    #[test]
    fn a_preset_serves_the_channels_its_provider_does() {
        let serves = |preset, channel| {
            let given = HttpProvider { preset, ..HttpProvider::default() };
            filled(&given, channel).is_some()
        };

        for preset in [Preset::Twilio, Preset::Vonage, Preset::Messagebird, Preset::Aws] {
            assert!(serves(preset, Channel::Sms), "{preset:?}");
            assert_eq!(serves(preset, Channel::Voice), preset == Preset::Twilio, "{preset:?}");
            assert!(!serves(preset, Channel::Mail), "{preset:?}");
        }
    }
}
