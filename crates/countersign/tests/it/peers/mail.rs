//! A real mail server on this machine, for one test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use countersign::config::delivery::mail::SmtpServer;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/mail_server.py");

/// The server's process. It ends with its standard input, even if the test is killed.
pub(crate) struct MailServer {
    child: Child,
    _input: ChildStdin,
    folder: TempDir,
    security: &'static str,
    pub(crate) port: u16,
}

impl MailServer {
    /// Starts a server with a certificate for `localhost`.
    pub(crate) fn start(security: &'static str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&certificate, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        // Debian's own, which has Debian's aiosmtpd.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", PROGRAM])
            .args(["--security", security, "--folder"])
            .arg(folder.path())
            .args(["--certificate".as_ref(), certificate.as_os_str(), "--key".as_ref(), key.as_os_str()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start aiosmtpd, Debian package python3-aiosmtpd");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Self { _input: child.stdin.take().unwrap(), child, folder, security, port }
    }

    /// Returns the configuration that reaches it, with further keys.
    pub(crate) fn configuration(&self, keys: &str) -> SmtpServer {
        let (port, security) = (self.port, self.security);
        let mut text = format!(
            "name = \"relay\"\nhost = \"localhost\"\nport = {port}\nsecurity = \"{security}\"\n\
             from = \"Beispiel & Söhne <no-reply@example.com>\"\n{keys}\n"
        );
        if security != "none" && !keys.contains("ca_file") {
            text.push_str(&format!("ca_file = {:?}\n", self.folder.path().join("cert.pem")));
        }
        toml::from_str(&text).expect("a configuration")
    }

    /// Returns the mails that arrived, in their order.
    pub(crate) fn mails(&self) -> Vec<Value> {
        (0..)
            .map_while(|number| fs::read(self.folder.path().join(format!("{number}.json"))).ok())
            .map(|text| serde_json::from_slice(&text).expect("JSON"))
            .collect()
    }

    /// Returns how often somebody tried to sign in.
    pub(crate) fn sign_ins(&self) -> usize {
        fs::read_to_string(self.folder.path().join("sign-ins")).unwrap_or_default().lines().count()
    }

    /// Returns the only mail that arrived.
    pub(crate) fn mail(&self) -> Value {
        let mut mails = self.mails();
        assert_eq!(mails.len(), 1);
        mails.remove(0)
    }

    /// Waits for the process to end.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
