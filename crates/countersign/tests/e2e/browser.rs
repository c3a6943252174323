//! A browser without a window: Chromium, driven by the W3C WebDriver protocol, with a keyboard and without scripts.

use crate::tools::{curl, unusable};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};
use tempfile::TempDir;

/// A browser with an empty profile. Dropping it ends it.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    /// Closed, it would end the driver.
    _output: BufReader<ChildStdout>,
    _profile: TempDir,
}

/// What a key is called (W3C WebDriver §17.4.2).
pub(crate) const TAB: char = '\u{E004}';
pub(crate) const ENTER: char = '\u{E007}';

/// How a page refers to one of its elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// Opens one whose page is so many pixels wide.
    pub(crate) fn open(width: u32) -> Self {
        let profile = tempfile::tempdir().expect("temporary directory");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| unusable("chromedriver", &error));
        let mut output = BufReader::new(driver.stdout.take().expect("standard output"));
        let port = output.by_ref().lines().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let root = format!("http://127.0.0.1:{}/session", port.expect("chromedriver says its port"));
        let mut browser = Self { driver, session: root, _output: output, _profile: profile };
        let begun = browser.post("", &capabilities(browser._profile.path(), width));
        browser.session += &format!("/{}", begun["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Goes to an address.
    pub(crate) fn visit(&self, address: &str) {
        self.post("/url", &json!({ "url": address }));
    }

    /// Returns the heading of the page.
    pub(crate) fn heading(&self) -> String {
        self.text_of("h1")
    }

    /// Returns the text of the first element that a selector finds.
    pub(crate) fn text_of(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let element = found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {selector}: {found}"));
        self.get(&format!("/element/{element}/text")).as_str().expect("text").to_owned()
    }

    /// Returns what the page says when asked; the pages have no script of their own.
    pub(crate) fn ask(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": format!("return {script}"), "args": [] }))
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Presses Tab until the focus is on the element with an id.
    pub(crate) fn tab_to(&self, id: &str) {
        let reached = (0..20).any(|_| {
            self.press(&TAB.to_string());
            self.ask("document.activeElement.id") == id
        });
        assert!(reached, "no way to {id} by keyboard");
    }

    /// Writes a picture of the page.
    pub(crate) fn take_picture(&self, path: &Path) {
        let picture = self.get("/screenshot");
        let bytes = BASE64.decode(picture.as_str().expect("Base64").as_bytes()).expect("Base64");
        fs::write(path, bytes).expect("write");
    }

    fn get(&self, path: &str) -> Value {
        let answer = curl(["--max-time", "60", &format!("{}{path}", self.session)]);
        answer.json(200)["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (body, address) = (body.to_string(), format!("{}{path}", self.session));
        curl(["--max-time", "60", "--json", &body, &address]).json(200)["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, else it would outlive the driver.
        let mut goodbye = Command::new("curl");
        goodbye.args(["--silent", "--max-time", "10", "--request", "DELETE", &self.session]);
        let _ = goodbye.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn capabilities(profile: &Path, width: u32) -> Value {
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--no-first-run",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let metrics = json!({ "width": width, "height": 1600, "pixelRatio": 2.0, "touch": false });
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": arguments, "mobileEmulation": { "deviceMetrics": metrics } },
    } } })
}
