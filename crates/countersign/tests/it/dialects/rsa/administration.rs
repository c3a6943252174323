//! §4 to §6, §9.3: users, numbers, emergency codes, authenticators, registration codes, health.

use super::{Tenant, expect_envelope};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn section_4_1_users_are_searched_by_a_part_of_the_address() {
    let tenant = Tenant::start().await;
    for name in ["mirko", "amira", "mira", "bob"] {
        tenant.app.user(name).await;
    }
    let search =
        async |path: &str, like: Value| tenant.send(Method::POST, path, json!({ "emailLike": like })).await;
    let emails = |users: &Value| -> Vec<String> {
        let email = |user: &Value| user["emailAddress"].as_str().expect("an address").to_owned();
        users.as_array().expect("users").iter().map(email).collect()
    };
    let sorted = ["amira@example.com", "mira@example.com", "mirko@example.com"];

    let v1 = search("/v1/users/search", json!("MIR")).await.expect_ok();
    assert_eq!(emails(&v1.json), sorted, "a bare array, by address");
    assert_eq!(v1.json[1], tenant.lookup("mira@example.com").await.json, "§4.1: user objects as in §3");
    let v1 = search("/v1/users/search?pageSize=2", json!("mir")).await.expect_ok();
    assert_eq!(emails(&v1.json), sorted[..2]);

    for (page, expected) in [(0, &sorted[..2]), (1, &sorted[2..]), (2, &[])] {
        let path = format!("/v2/users/search?pageSize=2&pageNumber={page}");
        let v2 = search(&path, json!("mir")).await.expect_ok();
        assert_eq!((&v2["totalPages"], &v2["totalElements"]), (&json!(2), &json!(3)), "{page}");
        assert_eq!(emails(&v2["elements"]), expected, "{page}");
    }
    for wildcard in ["mir*", "mir%", "m_ra"] {
        let none = search("/v2/users/search", json!(wildcard)).await.expect_ok();
        assert_eq!(none["totalElements"], 0, "{wildcard}");
    }
    for (path, like) in [
        ("/v1/users/search", json!("")),
        ("/v1/users/search", json!(null)),
        ("/v1/users/search?pageSize=0", json!("mir")),
        ("/v2/users/search?pageSize=26", json!("mir")),
        ("/v2/users/search?pageNumber=-1", json!("mir")),
    ] {
        expect_envelope(&search(path, like).await, 400);
    }
}

#[tokio::test]
async fn section_4_2_a_user_is_disabled_and_enabled() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let path = format!("/v1/users/{}/userStatus", user.id);
    let set = async |status: &str| tenant.send(Method::PUT, &path, json!({ "userStatus": status })).await;

    for status in ["Disabled", "Enabled"] {
        let answer = set(status).await.expect_ok();
        assert_eq!(answer.json, json!({ "id": user.id, "userStatus": status }));
        assert_eq!(tenant.lookup("mira@example.com").await["userStatus"], status);
        expect_envelope(&set(status).await, 409);
    }
    for status in ["enabled", "Active", ""] {
        expect_envelope(&set(status).await, 400);
    }
    let nobody = "/v1/users/00000000-0000-4000-8000-000000000000/userStatus";
    expect_envelope(&tenant.send(Method::PUT, nobody, json!({ "userStatus": "Enabled" })).await, 404);
}

#[tokio::test]
async fn section_4_4_only_a_disabled_user_is_deleted() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let path = format!("/v1/users/{}", user.id);

    expect_envelope(&tenant.call(Method::DELETE, &path).await, 409);
    let body = json!({ "userStatus": "Disabled" });
    tenant.send(Method::PUT, &format!("{path}/userStatus"), body).await.expect_ok();
    let deleted = tenant.call(Method::DELETE, &path).await.expect_ok();

    assert!(deleted.body.is_empty());
    expect_envelope(&tenant.call(Method::DELETE, &path).await, 404);
    expect_envelope(&tenant.lookup("mira@example.com").await, 404);
}

#[tokio::test]
async fn section_4_5_synchronising_answers_the_user() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;

    let synchronised = tenant.call(Method::POST, &format!("/v1/users/{}/sync", user.id)).await.expect_ok();

    assert_eq!(synchronised.json, tenant.lookup("mira@example.com").await.json);
    expect_envelope(&tenant.call(Method::POST, "/v1/users/sync").await, 405);
}

#[tokio::test]
async fn section_4_6_numbers_are_set_replaced_and_cleared() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let path = format!("/v1/users/{}", user.id);
    let set = async |body: Value| tenant.send(Method::PATCH, &path, body).await;

    let both =
        set(json!({ "smsNumber": "+49 30 123456", "voiceNumber": "+44 (20) 7946-0000" })).await.expect_ok();
    let expected = json!({ "id": user.id, "smsNumber": "+4930123456", "voiceNumber": "+442079460000" });
    assert_eq!(both.json, expected);
    let other = set(json!({ "smsNumber": "+4930123457" })).await.expect_ok();
    assert_eq!(
        (&other["smsNumber"], &other["voiceNumber"]),
        (&json!("+4930123457"), &json!("+442079460000"))
    );
    let cleared = set(json!({ "voiceNumber": "" })).await.expect_ok();
    assert_eq!(cleared["voiceNumber"], "");
    let shown = tenant.lookup("mira@example.com").await.expect_ok();
    assert_eq!((&shown["smsNumber"], &shown["voiceNumber"]), (&json!("+4930123457"), &json!("")));
    let listed = tenant.app.get(&user.path("/factors")).by(&tenant.app.root()).await.expect_ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "one factor for one number");

    let before = tenant.app.heads().await;
    for (row, body) in [
        ("§4.6 country code mandatory", json!({ "smsNumber": "030 123456" })),
        ("§4.6 no extensions", json!({ "smsNumber": "+4930123456 ext. 7" })),
        ("§4.6 too short", json!({ "smsNumber": "+4912" })),
        ("not a string", json!({ "smsNumber": 49 })),
        ("one good, one not", json!({ "smsNumber": "+4930123458", "voiceNumber": "x" })),
        ("nothing", json!({})),
    ] {
        let answer = set(body).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
    }
    assert_eq!(tenant.app.heads().await, before);
}

#[tokio::test]
async fn section_5_emergency_codes_of_version_1() {
    let tenant = Tenant::start().await;
    tenant.app.policy(json!({ "emergencyCodeSeconds": 7 * 86_400 })).await;
    let user = tenant.app.user("mira").with_totp().await;
    let path = format!("/v1/users/{}/emergencyTokencode", user.id);

    let enabled = tenant.send(Method::PUT, &path, json!({ "expirationDays": "7" })).await.expect_ok();

    assert_eq!(enabled["expirationDate"], "2026-11-29T10:00:00.000Z");
    let shown = tenant.lookup("mira@example.com").await.expect_ok();
    assert_eq!(shown["emergencyAccessStatus"], "Enabled");
    assert_eq!(shown["emergencyTokencodeId"], enabled["emergencyTokencodeId"]);
    let code = enabled.text("emergencyTokencode");
    assert!(user.verify_with(json!({ "code": code, "type": "emergency" })).await.accepted());
    assert_eq!(tenant.lookup("mira@example.com").await["emergencyAccessStatus"], "Disabled", "it is used");
    for days in [json!(0), json!("8"), json!("soon"), json!(1.5), json!(null), json!(-1)] {
        let answer = tenant.send(Method::PUT, &path, json!({ "expirationDays": days })).await;
        assert_eq!(answer.status, 400, "{days}: {}", answer.shown());
    }
    let missing = tenant.send(Method::PUT, &path, json!({})).await;
    expect_envelope(&missing, 400);
    assert!(missing.text("message").contains("required"), "{}", missing.shown());
}

#[tokio::test]
async fn section_5_2_emergency_codes_of_version_2() {
    let tenant = Tenant::start().await;
    tenant.app.policy(json!({ "emergencyCodeSeconds": 86_400 })).await;
    let user = tenant.app.user("mira").with_totp().await;
    let path = format!("/v2/users/{}/emergencyTokencode", user.id);
    let used =
        |value: &str, unit: &str| json!({ "expiryValue": value, "expiryUnit": unit, "oneTimeUse": true });

    for (row, body, used, is_locked, expires) in [
        ("defaults", json!({}), used("1", "days"), false, "2026-11-23T10:00:00.000Z"),
        (
            "hours",
            json!({ "expiryUnit": "hours", "expiryValue": 3, "oneTimeUse": true }),
            used("3", "hours"),
            false,
            "2026-11-22T13:00:00.000Z",
        ),
        (
            "quoted minutes",
            json!({ "expiryUnit": "minutes", "expiryValue": "90", "oneTimeUse": "true" }),
            used("90", "minutes"),
            false,
            "2026-11-22T11:30:00.000Z",
        ),
        (
            "the tenant's setting overrides",
            json!({ "expiryUnit": "days", "expiryValue": 7 }),
            used("1", "days"),
            true,
            "2026-11-23T10:00:00.000Z",
        ),
        (
            "codes are good once, whatever is asked",
            json!({ "oneTimeUse": false }),
            used("1", "days"),
            true,
            "2026-11-23T10:00:00.000Z",
        ),
    ] {
        let answer = tenant.send(Method::PUT, &path, body).await.expect_ok();
        assert_eq!(answer["configurationsUsed"], used, "{row}");
        assert_eq!(
            (&answer["configurationsLocked"], &answer["oneTimeUse"]),
            (&json!(is_locked), &json!(true)),
            "{row}"
        );
        assert_eq!(answer["expirationDate"], expires, "{row}");
    }
    tenant.call(Method::PUT, &path).await.expect_ok();
    for (row, body) in [
        ("a unit alone", json!({ "expiryUnit": "days" })),
        ("a value alone", json!({ "expiryValue": 1 })),
        ("nothing", json!({ "expiryUnit": "minutes", "expiryValue": 0 })),
        ("over 7 days", json!({ "expiryUnit": "hours", "expiryValue": 169 })),
        ("far over", json!({ "expiryUnit": "days", "expiryValue": u64::MAX })),
        ("another unit", json!({ "expiryUnit": "weeks", "expiryValue": 1 })),
        ("not a truth value", json!({ "oneTimeUse": "often" })),
    ] {
        let answer = tenant.send(Method::PUT, &path, body).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
    }
}

#[tokio::test]
async fn section_5_3_emergency_codes_are_disabled_by_id_or_all() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let enable = format!("/v2/users/{}/emergencyTokencode", user.id);
    let first = tenant.call(Method::PUT, &enable).await.expect_ok().text("emergencyTokencodeId");
    let second = tenant.call(Method::PUT, &enable).await.expect_ok().text("emergencyTokencodeId");
    let disable = |id: &str| format!("/v1/users/{}/emergencyTokencode/{id}", user.id);
    let status = async || tenant.lookup("mira@example.com").await["emergencyAccessStatus"].clone();

    for id in [first.as_str(), "00000000-0000-4000-8000-000000000000", "x"] {
        expect_envelope(&tenant.call(Method::DELETE, &disable(id)).await, 404);
    }
    assert_eq!(status().await, "Enabled", "the successor of the first stands");
    tenant.call(Method::DELETE, &disable(&second)).await.expect_ok();
    assert_eq!(status().await, "Disabled");
    expect_envelope(&tenant.call(Method::DELETE, &disable(&second)).await, 404);

    tenant.call(Method::PUT, &enable).await.expect_ok();
    let all = format!("/v1/users/{}/emergencyTokencodes", user.id);
    for _ in 0..2 {
        tenant.call(Method::DELETE, &all).await.expect_ok();
        assert_eq!(status().await, "Disabled");
    }
}

/// §1.6, §4.6, §5: where the vendor's codes have no 409, what policy forbids is not authorised.
#[tokio::test]
async fn section_5_what_policy_forbids_is_a_403() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    tenant.app.policy(json!({ "kinds": ["hotp"] })).await;
    let before = tenant.app.heads().await;

    for (method, path, body) in [
        (Method::PUT, format!("/v1/users/{}/emergencyTokencode", user.id), json!({ "expirationDays": 1 })),
        (Method::PUT, format!("/v2/users/{}/emergencyTokencode", user.id), json!({})),
        (Method::PATCH, format!("/v1/users/{}", user.id), json!({ "smsNumber": "+4930123456" })),
        (Method::POST, "/v1/users/deviceRegistrationCode".to_owned(), json!({ "username": "mira" })),
    ] {
        expect_envelope(&tenant.send(method, &path, body).await, 403);
    }
    assert_eq!(tenant.app.heads().await, before);
}

#[tokio::test]
async fn section_6_1_and_6_2_authenticators_are_listed_and_deleted() {
    let tenant = Tenant::start().await;
    let user = tenant.reachable("mira").await;
    let below = |rest: &str| format!("/users/{}/devices{rest}", user.id);

    let v1 = tenant.call(Method::GET, &format!("/v1{}", below("?includeBrowsers=false"))).await.expect_ok();
    let v2 = tenant.call(Method::GET, &format!("/v2{}", below(""))).await.expect_ok();

    assert_eq!(v1["devices"], v2["devices"]);
    assert_eq!((&v2["fidoTokens"], &v2["sidTokens"]), (&json!([]), &json!([])));
    let mut devices = v1["devices"].clone();
    assert_eq!(devices.as_array().map(Vec::len), Some(1), "numbers are no devices");
    assert_eq!((&devices[0]["id"], &devices[0]["userId"]), (&json!(user.factor), &json!(user.id)));
    devices[0]["id"] = "[id]".into();
    devices[0]["userId"] = "[id]".into();
    insta::assert_json_snapshot!(devices);

    let factors = tenant.app.get(&user.path("/factors")).by(&tenant.app.root()).await.expect_ok();
    let items = factors["items"].as_array().expect("items").clone();
    let sms = items.iter().find(|item| item["type"] == "sms").expect("a number")["id"].clone();
    for device in ["x", "00000000-0000-4000-8000-000000000000", sms.as_str().expect("an id")] {
        expect_envelope(&tenant.call(Method::DELETE, &format!("/v1{}/{device}", below(""))).await, 404);
    }
    let path = format!("/v1{}/{}", below(""), user.factor);
    tenant.call(Method::DELETE, &path).await.expect(200);
    expect_envelope(&tenant.call(Method::DELETE, &path).await, 404);
}

#[tokio::test]
async fn section_6_3_a_registration_code_is_for_who_has_no_device() {
    let tenant = Tenant::start().await;
    tenant.app.user("mira").await;
    tenant.app.user("equipped").with_totp().await;
    let ask = async |body: Value| tenant.send(Method::POST, "/v1/users/deviceRegistrationCode", body).await;

    let body = json!({ "email": "mira@example.com", "appId": "1f00c62b-a5c0-49d3-9ffb-92314d717187" });
    let code = ask(body).await.expect_ok();

    assert_eq!((&code["companyID"], &code["companyId"]), (&json!("main"), &json!("main")));
    assert_eq!(code["email"], "mira@example.com");
    assert_eq!(code["expirationDate"], "2026-11-22T11:00:00.000Z");
    let digits = code.text("deviceRegistrationCode");
    assert!(digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    expect_envelope(&ask(json!({ "username": "equipped" })).await, 403);
    expect_envelope(&ask(json!({})).await, 400);
    expect_envelope(&ask(json!({ "username": "nobody" })).await, 400);
}

#[tokio::test]
async fn section_9_3_the_health_check_asks_for_nothing() {
    let tenant = Tenant::start().await;

    for path in ["/rsa/AdminInterface/healthcheck", "/rsa/healthcheck"] {
        let health = tenant.app.get(path).await.expect_ok();
        assert_eq!((&health["status"], &health["adjustedStatus"]), (&json!("HEALTHY"), &json!("HEALTHY")));
        assert_eq!(health["hostname"], "countersign.test");
    }
    tenant.app.app.store.close().await;
    assert_eq!(tenant.app.get("/rsa/healthcheck").await.expect_ok()["status"], "DOWN");
}

/// §11.2: paths of a client that contradict the vendor are not there.
#[tokio::test]
async fn section_11_2_wrong_presets_are_not_served() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").with_totp().await;
    for (method, path) in [
        (Method::GET, "/v1/users/highriskusers".to_owned()),
        (Method::GET, format!("/v1/users/{}/hardwaretokens", user.id)),
        (Method::DELETE, format!("/v1/users/{}/authenticators/{}", user.id, user.factor)),
        (Method::PUT, format!("/v1/users/{}/emergencytokencode/v2", user.id)),
        (Method::POST, "/v1/enrollmentcode".to_owned()),
        (Method::POST, "/v1/passwordresetcode".to_owned()),
        (Method::POST, "/v1/deviceregistrationcode".to_owned()),
        (Method::GET, "/v1/license/usage".to_owned()),
        (Method::GET, "/healthcheck".to_owned()),
        (Method::POST, "/v1/mfaagent/lookup".to_owned()),
    ] {
        let answer = tenant.call(method.clone(), &path).await;
        assert!([404, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.shown());
    }
}

/// The code that RSA's client issues sets up an app natively: one system, whatever it is spoken to in.
#[tokio::test]
async fn an_enabled_code_is_a_second_factor_like_any_other() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").with_totp().await;
    let enable = format!("/v2/users/{}/emergencyTokencode", user.id);
    let code = tenant.call(Method::PUT, &enable).await.expect_ok().text("emergencyTokencode");

    assert!(user.verify_with(json!({ "code": code, "type": "emergency" })).await.accepted());
    let again = user.verify_with(json!({ "code": code, "type": "emergency" })).await;

    assert_eq!(again.refusal(), Some("replayed"));
}
