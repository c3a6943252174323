//! Message centres that speak SMPP.

use crate::config::secret::Given;
use serde::Deserialize;
use std::{net::IpAddr, path::PathBuf};

/// A message centre that delivers text messages.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmppCentre {
    /// What operators call it.
    pub name: String,
    /// The countries whose numbers it takes; all if empty.
    pub countries: Vec<String>,
    /// The host it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// Speaks TLS with it.
    pub tls: bool,
    /// Certificates in PEM that vouch for it, instead of those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Allows password and codes to travel in clear to another machine.
    pub insecure: bool,
    /// The account's name there, of up to 15 characters.
    pub system_id: String,
    /// The account's password, of up to 8 characters.
    pub password: Option<Given>,
    /// A file with the account's password.
    pub password_file: Option<PathBuf>,
    /// The kind of system the account is for, where the centre asks for one.
    pub system_type: String,
    /// Whom messages come from: `+` and a number, a short number or a name. The centre chooses when empty.
    pub sender: String,
    /// The sender's type of number, where the centre wants another than follows from the sender.
    pub sender_ton: Option<u8>,
    /// The sender's numbering plan, where the centre wants another than follows from the sender.
    pub sender_npi: Option<u8>,
    /// The kind of service, where the centre asks for one.
    pub service_type: String,
    /// Asks the centre to report what became of each message.
    pub receipts: bool,
    /// The most messages that wait for the centre's answer at a time.
    pub window: usize,
    /// The most seconds to wait for an answer.
    pub timeout_seconds: u64,
    /// The seconds of silence after which the centre is asked whether it is there.
    pub enquire_link_seconds: u64,
    /// The seconds before the first attempt to connect again; they double with each that fails.
    pub reconnect_seconds: u64,
    /// The most seconds between attempts to connect, and those after the centre refused the account.
    pub reconnect_max_seconds: u64,
}

impl Default for SmppCentre {
    fn default() -> Self {
        Self {
            name: String::new(),
            countries: Vec::new(),
            host: String::new(),
            port: 2775,
            tls: true,
            ca_file: None,
            insecure: false,
            system_id: String::new(),
            password: None,
            password_file: None,
            system_type: String::new(),
            sender: String::new(),
            sender_ton: None,
            sender_npi: None,
            service_type: String::new(),
            receipts: true,
            window: 10,
            timeout_seconds: 10,
            enquire_link_seconds: 30,
            reconnect_seconds: 1,
            reconnect_max_seconds: 60,
        }
    }
}

impl SmppCentre {
    /// Refuses what cannot work, and what would send secrets in clear without having been told to: the member, and why.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.host.is_empty() {
            return Err(("host", "expected a host name or an address"));
        }
        if self.system_id.is_empty() {
            return Err(("system_id", "expected the name of the account"));
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Err(("password", "goes without password_file"));
        }
        if self.password.is_none() && self.password_file.is_none() {
            return Err((
                "password",
                "expected password or password_file; write password = \"\" if the account has none",
            ));
        }
        if self.has_name_for_sender() && self.sender.chars().count() > 11 {
            return Err(("sender", "a name has at most 11 characters"));
        }
        if !self.tls && !self.insecure && !is_this_machine(&self.host) {
            return Err((
                "tls",
                "without it the password and every code travel in clear; write insecure = true if they may",
            ));
        }
        if !self.tls && self.ca_file.is_some() {
            return Err(("ca_file", "goes with tls"));
        }
        self.ranges()
            .into_iter()
            .find(|(is_within, ..)| !is_within)
            .map_or(Ok(()), |(_, member, why)| Err((member, why)))
    }

    /// Tells whether the sender is a name, of which telephones take 11 characters (3GPP TS 23.040, 9.1.2.5).
    fn has_name_for_sender(&self) -> bool {
        let digits = self.sender.strip_prefix('+').unwrap_or(&self.sender);
        !digits.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn ranges(&self) -> [(bool, &'static str, &'static str); 5] {
        let seconds = 1..=3600;
        let pauses = self.reconnect_seconds..=3600;
        [
            ((1..=1000).contains(&self.window), "window", "expected 1 to 1000"),
            ((1..=120).contains(&self.timeout_seconds), "timeout_seconds", "expected 1 to 120"),
            (seconds.contains(&self.enquire_link_seconds), "enquire_link_seconds", "expected 1 to 3600"),
            (seconds.contains(&self.reconnect_seconds), "reconnect_seconds", "expected 1 to 3600"),
            (
                pauses.contains(&self.reconnect_max_seconds),
                "reconnect_max_seconds",
                "expected reconnect_seconds to 3600",
            ),
        ]
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(text: &str) -> Result<(), String> {
        let password = if text.contains("password") { "" } else { "password = 'secret'\n" };
        let text = format!("system_id = 'countersign'\n{password}{text}");
        let centre: SmppCentre = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        centre.validate().map_err(|(member, why)| format!("{member}: {why}"))
    }

    #[test]
    fn secrets_travel_in_clear_on_this_machine_or_when_that_is_written_out() {
        for fine in [
            "host = 'smpp.example.net'",
            "host = '127.0.0.1'\ntls = false",
            "host = '::1'\ntls = false",
            "host = 'localhost'\ntls = false",
            "host = '192.0.2.1'\ntls = false\ninsecure = true",
        ] {
            assert_eq!(validated(fine), Ok(()), "{fine}");
        }

        for clear in ["host = '192.0.2.1'\ntls = false", "host = 'localhost.example.net'\ntls = false"] {
            let refusal = validated(clear).expect_err(clear);
            assert!(refusal.starts_with("tls: without it"), "{refusal}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refusal = |text: &str| validated(&format!("host = 'localhost'\n{text}")).expect_err(text);

        assert_eq!(refusal("window = 0"), "window: expected 1 to 1000");
        assert_eq!(refusal("timeout_seconds = 0"), "timeout_seconds: expected 1 to 120");
        assert_eq!(
            refusal("reconnect_max_seconds = 0"),
            "reconnect_max_seconds: expected reconnect_seconds to 3600"
        );
        assert_eq!(refusal("tls = false\nca_file = 'ca.pem'"), "ca_file: goes with tls");
        assert!(refusal("windwo = 1").contains("windwo"));
        assert_eq!(refusal("password = 'a'\npassword_file = 'b'"), "password: goes without password_file");
        assert_eq!(refusal("sender = 'Example Corp'"), "sender: a name has at most 11 characters");
        assert_eq!(validated("host = 'localhost'\nsender = 'ExampleCorp'"), Ok(()));
        assert_eq!(validated("host = 'localhost'\nsender = '+4915112345678'"), Ok(()));
        assert_eq!(validated("host = 'localhost'\npassword = ''"), Ok(()));
        let without = SmppCentre { host: "h".into(), system_id: "a".into(), ..SmppCentre::default() };
        assert_eq!(without.validate().map_err(|(member, _)| member), Err("password"));
        assert_eq!(validated(""), Err("host: expected a host name or an address".into()));
    }
}
