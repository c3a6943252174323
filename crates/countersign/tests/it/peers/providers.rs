//! Providers as they publish themselves: each looks at a request as its documentation has it, answers as it would, and
//! knows no number that ends in `0000`. Answers repeat number and text where the real ones do.

use super::http::{Answer, Asked};
use aws_lc_rs::{digest, hmac};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const TWILIO_ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub(crate) const TOKEN: &str = "tokenforexamples";
pub(crate) const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const FORM: &str = "application/x-www-form-urlencoded";

fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(is_msisdn)
}

fn is_msisdn(text: &str) -> bool {
    (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
}

/// Messages: <https://www.twilio.com/docs/messaging/api/message-resource>, calls:
/// <https://www.twilio.com/docs/voice/api/call-resource>.
pub(crate) fn twilio(asked: &Asked) -> Answer {
    let error = |status, code, message: &str| {
        Answer::json(
            status,
            &json!({"code": code, "message": message, "status": status,
                    "more_info": format!("https://www.twilio.com/docs/errors/{code}")}),
        )
    };
    let basic = format!("Basic {}", BASE64.encode(format!("{TWILIO_ACCOUNT}:{TOKEN}").as_bytes()));
    if asked.header("authorization") != basic {
        return error(401, 20003, "Authenticate");
    }
    let base = format!("/2010-04-01/Accounts/{TWILIO_ACCOUNT}");
    let form = asked.form();
    let has = |name: &str| form.get(name).is_some_and(|value| !value.is_empty());
    let known: &[&str] = match asked.target.strip_prefix(&base) {
        Some("/Messages.json") => &["To", "From", "MessagingServiceSid", "Body", "ValidityPeriod"],
        Some("/Calls.json") => &["To", "From", "Twiml"],
        _ => return error(404, 20404, "The requested resource was not found"),
    };
    let unknown = form.keys().find(|name| !known.contains(&name.as_str()));
    if asked.method != "POST" || asked.header("content-type") != FORM || unknown.is_some() {
        return error(400, 21100, &format!("Bad request {unknown:?}"));
    }
    let is_call = asked.target.ends_with("/Calls.json");
    let is_whole = if is_call {
        has("Twiml") && has("From")
    } else {
        has("Body") && has("From") != has("MessagingServiceSid") && form["Body"].chars().count() <= 1600
    };
    if !is_whole {
        return error(400, 21603, "A parameter is required");
    }
    if !is_e164(&form["To"]) || form["To"].ends_with("0000") {
        return error(400, 21211, &format!("The 'To' number {} is not a valid phone number.", form["To"]));
    }
    let mut made = json!({"account_sid": TWILIO_ACCOUNT, "api_version": "2010-04-01", "to": form["To"],
        "status": "queued", "error_code": null,
        "sid": if is_call { "CA00112233445566778899aabbccddeeff" } else { "SM00112233445566778899aabbccddeeff" }});
    if !is_call {
        made["body"] = form["Body"].clone().into();
    }
    Answer::json(201, &made)
}

/// <https://developer.vonage.com/en/api/sms>: always status 200, and the outcome in the answer.
pub(crate) fn vonage(asked: &Asked) -> Answer {
    let form = asked.form();
    let of = |name: &str| form.get(name).map_or("", String::as_str);
    let answer = |status: &str, text: &str| {
        Answer::json(
            200,
            &json!({"message-count": "1", "messages": [{"to": of("to"), "status": status, "error-text": text}]}),
        )
    };
    let known = ["api_key", "api_secret", "from", "to", "text", "type", "client-ref"];
    if asked.method != "POST"
        || asked.target != "/sms/json"
        || asked.header("content-type") != FORM
        || form.keys().any(|name| !known.contains(&name.as_str()))
    {
        return Answer::status(404);
    }
    if (of("api_key"), of("api_secret")) != (KEY, SECRET) {
        return answer("4", "Bad Credentials");
    }
    if [of("from"), of("to"), of("text")].contains(&"") {
        return answer("2", "Missing params");
    }
    // Letters beyond the plain ones need the type: without it they arrive as question marks.
    if !is_msisdn(of("to")) || of("text").contains(['д', '認']) != (of("type") == "unicode") {
        return answer("3", "Invalid params");
    }
    if of("to").ends_with("0000") {
        return answer("6", &format!("Unroutable message to {}", of("to")));
    }
    Answer::json(
        200,
        &json!({"message-count": "1", "messages": [{"to": of("to"), "message-id": "0C000000217B7F02",
            "status": "0", "remaining-balance": "15.53590000", "message-price": "0.03330000",
            "network": "23410", "client-ref": of("client-ref")}]}),
    )
}

/// <https://developers.messagebird.com/api/sms-messaging/>
pub(crate) fn messagebird(asked: &Asked) -> Answer {
    let error = |status, code: u8, parameter: &str, text: &str| {
        Answer::json(
            status,
            &json!({"errors": [{"code": code, "description": text, "parameter": parameter}]}),
        )
    };
    if asked.header("authorization") != format!("AccessKey {TOKEN}") {
        return error(401, 2, "access_key", "Request not allowed (incorrect access_key)");
    }
    if (asked.method.as_str(), asked.target.as_str()) != ("POST", "/messages") {
        return error(404, 20, "", "not found");
    }
    let body = asked.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if asked.header("content-type") != "application/json" || text("originator").is_empty() {
        return error(422, 9, "originator", "originator is required");
    }
    if text("body").is_empty() || body["datacoding"] != "auto" || !body["validity"].is_u64() {
        return error(422, 9, "body", "body is required");
    }
    let recipients = body["recipients"].as_array().cloned().unwrap_or_default();
    let [Value::String(to)] = recipients.as_slice() else {
        return error(422, 9, "recipients", "no recipients found");
    };
    if !is_msisdn(to) || to.ends_with("0000") {
        return error(422, 9, "recipient", &format!("no (correct) recipients found: {to}"));
    }
    Answer::json(
        201,
        &json!({"id": "e8077d803532c0b5937c639b60216938", "direction": "mt", "type": "sms",
            "originator": text("originator"), "body": text("body"), "reference": text("reference"),
            "recipients": {"totalCount": 1, "items": [{"recipient": to, "status": "sent"}]}}),
    )
}

/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>, with the signature computed anew.
pub(crate) fn sns(asked: &Asked) -> Answer {
    let xml = |status, body: String| Answer::Whole(status, vec![("content-type", "text/xml".into())], body);
    let error = |status, code: &str, message: &str| {
        xml(
            status,
            format!(
                "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <Error>\n    \
                 <Type>Sender</Type>\n    <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
                 <RequestId>b25f48e8-84fd-11e6-80d9-574e0c4664cb</RequestId>\n</ErrorResponse>"
            ),
        )
    };
    if asked.header("authorization") != aws_authorization(asked) {
        return error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match");
    }
    let form = asked.form();
    let of = |name: &str| form.get(name).map_or("", String::as_str);
    if (of("Action"), of("Version")) != ("Publish", "2010-03-31") || of("Message").is_empty() {
        return error(400, "InvalidAction", "The action is not valid");
    }
    if attributes(&form).get("AWS.SNS.SMS.SMSType").map(String::as_str) != Some("Transactional") {
        return error(400, "ValidationError", "unexpected message attributes");
    }
    if !is_e164(of("PhoneNumber")) || of("PhoneNumber").ends_with("0000") {
        let message = format!("Invalid parameter: PhoneNumber Reason: {} is not valid", of("PhoneNumber"));
        return error(400, "InvalidParameter", &message);
    }
    xml(
        200,
        "<PublishResponse xmlns=\"https://sns.amazonaws.com/doc/2010-03-31/\">\n    <PublishResult>\n        \
         <MessageId>567910cd-659e-55d4-8ccb-5aaf14679dc0</MessageId>\n    </PublishResult>\n    \
         <ResponseMetadata><RequestId>d74b8436-ae13-5ab4-a9ff-ce54dfea72a0</RequestId></ResponseMetadata>\n\
         </PublishResponse>"
            .into(),
    )
}

/// Returns the message attributes by name: `entry.N.Name` beside `entry.N.Value.StringValue`.
pub(crate) fn attributes(form: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    (1..10)
        .filter_map(|number| {
            let entry = format!("MessageAttributes.entry.{number}");
            assert!(form.get(&format!("{entry}.Value.DataType")).is_none_or(|kind| kind == "String"));
            Some((
                form.get(&format!("{entry}.Name"))?.clone(),
                form[&format!("{entry}.Value.StringValue")].clone(),
            ))
        })
        .collect()
}

fn aws_authorization(asked: &Asked) -> String {
    let hex = |bytes: &[u8]| HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref());
    let mac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let date = asked.header("x-amz-date");
    let day = date.get(..8).unwrap_or_default();
    let canonical = [
        &asked.method,
        &asked.target,
        "",
        &format!("content-type:{}", asked.header("content-type")),
        &format!("host:{}", asked.header("host")),
        &format!("x-amz-date:{date}"),
        "",
        "content-type;host;x-amz-date",
        &hex(asked.body.as_bytes()),
    ]
    .join("\n");
    let scope = format!("{day}/eu-central-1/sns/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(canonical.as_bytes()));
    let key = ["eu-central-1", "sns", "aws4_request"]
        .iter()
        .fold(mac(format!("AWS4{SECRET}").as_bytes(), day), |key, part| mac(&key, part));
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders=content-type;host;x-amz-date, Signature={}",
        HEXLOWER.encode(&mac(&key, &to_sign))
    )
}
