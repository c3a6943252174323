//! Input that nobody means: whatever stands in path, query, headers and body, a dialect refuses it in its own words.

use crate::test_app::{Answer, Credentials, TestApp};
use countersign::http::dialects::{Dialect, Row, rows};

/// What stands in the place of each parameter of a path.
const SEGMENTS: [&str; 8] = [
    "0",
    "99999999999999999999",
    "%00",
    "%2e%2e",
    "%F0%9F%92%A9",
    "a%2Fb",
    "%",
    "00000000-0000-0000-0000-000000000000",
];

const QUERIES: [&str; 8] = [
    "",
    "?limit=99999999999999999999&offset=-1&Limit=-2&Offset=x",
    "?limit=100&offset=18446744073709551615&Limit=2147483647&Offset=2147483647&sortBy=id&orderBy=desc",
    "?pageNumber=18446744073709551615&pageSize=100",
    "?pageNumber=1&pageSize=0&startTimeAfter=9999-12-31T23:59:59Z",
    "?startTimeAfter=-9999-01-01T00:00:00Z&endTimeOnOrBefore=2026-01-31T00:00:00%2B99:99&eventCode=99999999999",
    "?%=%&&=&==&a=%FF&mfatype=%00&totp=%C3%28",
    "?searchText=%25&searchColumn=id&sortBy=email&organisation=acme",
];

const BODIES: [(&str, &[u8]); 16] = [
    ("", b""),
    ("application/json", b""),
    ("application/json", b"null"),
    ("application/json", b"[[[[[[]]]]]]"),
    ("application/json", b"\xFF\xFE{}"),
    ("application/json", b"{\"a\":1e999,\"code\":-0,\"totp\":1e5,\"token\":{},\"recreate\":[]}"),
    ("application/json", b"{\"code\":\"\",\"code\":\"\",\"token\":\"AAAA\",\"mfatype\":\"\\u0000\"}"),
    (
        "application/json",
        b"{\"code\":\"\xF0\x9F\x92\xA9\",\"token\":\"====\",\"email\":\"@\",\"username\":\"%\"}",
    ),
    ("text/plain", b"{}"),
    ("application/x-www-form-urlencoded", b"%=&%zz&&=&==\"<>\\^`{|}"),
    (
        "application/x-www-form-urlencoded",
        b"grant_type=mfa&mfa_token=%00&mfa_code=%FF&code=%F0&access_token=.",
    ),
    (
        "application/x-www-form-urlencoded",
        b"grant_type=state_token&state_token={00000000-0000-8000-8000-000000000000}&totp=1",
    ),
    ("multipart/form-data", b"--\r\n"),
    ("multipart/form-data; boundary=", b"--\r\n\r\n\r\n----"),
    ("multipart/form-data; boundary=\"", b"--\"\r\nContent-Disposition: form-data; name\r\n\r\n\r\n--\"--"),
    (
        "multipart/form-data; boundary=x; boundary",
        b"--x\r\nContent-Disposition:;name=\"totp\r\n\r\nx\r\n--x--",
    ),
];

const ACCEPTED: [&str; 6] =
    ["", "/;q=NaN,*/*;q=-1", "image/png;q=inf", ",,;;q=,", "*/*;q=0", "text/*;q=9e99, application/xml"];

const CREDENTIALS: [&str; 9] = [
    "Basic",
    "Basic ====",
    "Basic OjpA",
    "Basic /////w==",
    "Bearer",
    "Bearer ..",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
    // alg RS256, typ JWT; times that are no numbers anybody can add to.
    "Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIwIiwiYXVkIjpbXSwiaWF0IjoiTmFOIiwiZXhwIjotMWUzMDh9.AA",
    "Negotiate ~",
];

fn path(dialect: Dialect, row: &Row, segment: &str, query: &str) -> String {
    let is_version = |part: &str| part == "{version}";
    let filled = row.path.split('/').map(|part| match part {
        part if is_version(part) && segment == "0" => "v8",
        part if part.starts_with('{') => segment,
        part => part,
    });
    format!("{}{}{query}", dialect.prefix(), filled.collect::<Vec<_>>().join("/"))
}

#[track_caller]
fn expect_refused_or_done(answer: &Answer, context: &str) {
    let is_known = answer.status.as_u16() < 500 && answer.header("x-request-id").is_some();
    assert!(is_known, "{context}: {} {}", answer.status, answer.shown());
}

#[tokio::test]
async fn odd_input_is_no_failure_of_the_server() {
    let app = TestApp::start().await;
    for dialect in Dialect::ALL {
        for row in rows(dialect) {
            // Among the calls is signing out.
            let owner = app.owner().await;
            let ask = |segment: &str, query: &str| {
                app.call(row.method.clone(), &path(dialect, &row, segment, query)).by(&owner)
            };
            for segment in SEGMENTS {
                let answer = ask(segment, "").body("application/json", b"{}".to_vec()).await;
                expect_refused_or_done(&answer, &path(dialect, &row, segment, ""));
            }
            for query in QUERIES {
                expect_refused_or_done(&ask("0", query).await, &path(dialect, &row, "0", query));
            }
            for (media_type, body) in BODIES {
                let answer = ask("0", "").body(media_type, body.to_vec()).await;
                expect_refused_or_done(&answer, &format!("{} {media_type} {body:?}", row.path));
            }
            for accepted in ACCEPTED {
                let answer = ask("0", "?mfatype=AUTHENTICATOR").header("accept", accepted).await;
                expect_refused_or_done(&answer, &format!("{} {accepted}", row.path));
            }
            for credentials in CREDENTIALS {
                let by = Credentials::raw(credentials);
                let answer = app.call(row.method.clone(), &path(dialect, &row, "0", "")).by(&by).await;
                expect_refused_or_done(&answer, &format!("{} {credentials}", row.path));
            }
        }
    }
}

#[tokio::test]
async fn what_is_nested_or_large_beyond_reason_is_refused() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
    let deep_object = [b"{\"attributes\":".to_vec(), deep.clone(), b"}".to_vec()].concat();
    let large = [b"{\"code\":\"".to_vec(), vec![b'1'; 8_000_000], b"\"}".to_vec()].concat();
    for dialect in Dialect::ALL {
        for row in rows(dialect).into_iter().filter(|row| !matches!(row.method.as_str(), "GET" | "DELETE")) {
            for body in [&deep, &deep_object, &large] {
                let call = app.call(row.method.clone(), &path(dialect, &row, "0", "")).by(&owner);
                let answer = call.body("application/json", body.clone()).await;
                expect_refused_or_done(&answer, row.path);
            }
        }
    }
}
