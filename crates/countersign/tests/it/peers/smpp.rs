//! A message centre of somebody else's making, run beside the test.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/message_centre.pl");

/// The most time anything we wait for may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running message centre. It ends with the test.
pub(crate) struct Peer {
    process: Child,
    pub(crate) port: u16,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Peer {
    /// Starts one with the options the script describes.
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut process = Command::new("perl")
            .arg(SCRIPT)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|_| missing());
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let first = lines.next().unwrap_or_else(|| missing()).expect("a line");
        let port = parse(&first)["listening"].as_u64().expect("a port");
        let events = Arc::new(Mutex::new(Vec::new()));
        follow(lines, Arc::clone(&events));
        Self { process, port: u16::try_from(port).expect("a port"), events }
    }

    /// Returns what happened so far of one kind.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let events = self.events.lock().expect("no test panics while it is locked");
        events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Waits until something has happened `times` times, and returns the last.
    pub(crate) async fn wait_for(&self, name: &str, times: usize) -> Value {
        let happened = async {
            loop {
                if let Some(event) = self.events(name).get(times - 1) {
                    return event.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, happened).await.unwrap_or_else(|_| panic!("no {name} came"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn follow(lines: Lines<BufReader<ChildStdout>>, events: Arc<Mutex<Vec<Value>>>) {
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            events.lock().expect("no test panics while it is locked").push(parse(&line));
        }
    });
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn missing() -> ! {
    panic!(
        "this test needs Perl and its module Net::SMPP: run scripts/test, which installs them, \
         or apt-get install libnet-smpp-perl"
    )
}
