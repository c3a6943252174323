//! A person's phone, or the token on their key ring: `oathtool` with the secret it was given.

use crate::tools::printed;
use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PERIOD: u64 = 30;
/// How long a request may take without its code falling out of the window.
const LEEWAY: u64 = 3;

/// An authenticator app with one TOTP secret, which shows each code once.
pub(crate) struct Phone {
    secret: String,
    /// The newest step whose code was shown.
    shown: u64,
}

impl Phone {
    /// Takes the secret out of a scanned URI.
    pub(crate) fn scan(uri: &str) -> Self {
        let (_, parameters) = uri.split_once('?').expect("parameters");
        let secret = parameters.split('&').find_map(|parameter| parameter.strip_prefix("secret="));
        Self { secret: secret.expect("a secret").to_owned(), shown: 0 }
    }

    /// Returns a code that is good now and was not shown before.
    ///
    /// The server accepts the steps beside the present one too, so there are three to begin with and nobody waits.
    pub(crate) fn fresh_code(&mut self) -> String {
        let oldest = (now() + LEEWAY) / PERIOD - 1;
        let step = oldest.max(self.shown + 1);
        let first = (step - 1) * PERIOD;
        if first > now() {
            thread::sleep(Duration::from_secs(first - now()));
        }
        self.shown = step;
        self.code_at(step)
    }

    /// Returns codes that are wrong now and for a while.
    pub(crate) fn wrong_codes(&self) -> Vec<String> {
        let present = now() / PERIOD;
        let right: Vec<String> = (present - 2..present + 5).map(|step| self.code_at(step)).collect();
        (0..20).map(|number| format!("{:06}", number * 49_999)).filter(|code| !right.contains(code)).collect()
    }

    fn code_at(&self, step: u64) -> String {
        let at = format!("--now=@{}", step * PERIOD);
        printed("oathtool", ["--totp", "--base32", &at, &self.secret])
    }
}

/// Returns the first codes of a counter-based token with eight digits.
pub(crate) fn hotp_codes(secret: &str, count: usize) -> Vec<String> {
    let window = format!("--window={}", count - 1);
    let codes = printed("oathtool", ["--hotp", "--base32", "--digits=8", "--counter=0", &window, secret]);
    codes.lines().map(str::to_owned).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
