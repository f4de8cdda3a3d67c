//! The local API from outside: who may ask, how answers look, and that what is said in a request is what is done.

mod support;

use serde_json::json;
use support::{Served, serve};
use voidvm_model::contract::{COMMANDS, HttpMethod};

fn method(of: HttpMethod) -> &'static str {
    match of {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
    }
}

#[tokio::test]
async fn no_route_answers_a_stranger() {
    let served = serve().await;
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    for command in COMMANDS {
        let path = format!("/api/v1{}", command.path.replace("{id}", id));
        let answer = served.send(method(command.method), &path, &[], "").await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (401, "unauthenticated"),
            "{}",
            command.name
        );
        let json = answer.json();
        assert_eq!(json["code"], 401);
        assert!(json["timestamp"].is_string() && json["message"].is_string() && json.get("data").is_none());
    }
    for path in ["/api/v1/rpc/vm.list", "/api/v1/events", "/api/v1/openapi.json", "/api/v1/nowhere"] {
        assert_eq!(served.send("GET", path, &[], "").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_counted() {
    let served = serve().await;
    let right = format!("Bearer {}", served.token);
    for wrong in
        ["Bearer ", "Bearer x", "Basic eDp4", &right[..right.len() - 1], &format!("{right}x"), &served.token]
    {
        assert_eq!(
            served.send("GET", "/api/v1/vms", &[("authorization", wrong)], "").await.status,
            401,
            "{wrong}"
        );
    }
    for _ in 6..100 {
        assert_eq!(served.send("GET", "/api/v1/vms", &[("authorization", "Bearer x")], "").await.status, 401);
    }
    let limited = served.send("GET", "/api/v1/vms", &[("authorization", "Bearer x")], "").await;
    assert_eq!((limited.status, limited.error_code().as_str()), (429, "rate_limited"));
    assert!(limited.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    // The sign-in page and the link count with them, and the owner is not locked out.
    let body = json!({ "token": "wrong" }).to_string();
    let sign_in =
        served.send("POST", "/api/v1/session", &[("content-type", "application/json")], &body).await;
    assert_eq!(sign_in.status, 429);
    assert_eq!(served.send("GET", "/?token=wrong", &[], "").await.status, 429);
    assert_eq!(served.ask("GET", "/api/v1/vms", "").await.status, 200);
}

#[tokio::test]
async fn a_rebound_name_is_refused_everywhere() {
    let served = serve().await;
    let bearer = format!("Bearer {}", served.token);
    for path in ["/", "/api/v1/vms", &format!("/?token={}", served.token), "/console/x"] {
        let headers = [("host", "evil.example"), ("authorization", bearer.as_str())];
        let answer = served.send("GET", path, &headers, "").await;
        assert!(answer.status == 403 || path == "/console/x", "{path}: {}", answer.status);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_session_is_a_cookie_scripts_cannot_read() {
    let served = serve().await;
    let link = served.send("GET", &format!("/?token={}", served.token), &[], "").await;
    assert_eq!((link.status, link.headers["location"].as_str()), (303, "/"));
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(link.headers["set-cookie"].contains(part), "{}", link.headers["set-cookie"]);
    }
    assert!(!link.headers["set-cookie"].contains(&served.token));
    let wrong = served.send("GET", "/?token=wrong", &[], "").await;
    assert_eq!(wrong.status, 303);
    assert!(!wrong.headers.contains_key("set-cookie"));

    let body = json!({ "token": served.token }).to_string();
    let typed = served.send("POST", "/api/v1/session", &[("content-type", "application/json")], &body).await;
    assert_eq!(typed.status, 200);
    let cookie = typed.headers["set-cookie"].split(';').next().unwrap();
    assert_eq!(served.send("GET", "/api/v1/vms", &[("cookie", cookie)], "").await.status, 200);
    let out = served.send("DELETE", "/api/v1/session", &[("cookie", cookie)], "").await;
    assert!(out.headers["set-cookie"].contains("Max-Age=0"));
}

#[tokio::test]
async fn a_foreign_page_gets_nothing_with_our_cookie() {
    let served = serve().await;
    let cookie = served.cookie().await;
    let own = format!("http://{}", served.api.address());
    let body = "{}";
    let post = async |extra: &[(&str, &str)]| {
        let mut headers = vec![("cookie", cookie.as_str()), ("content-type", "application/json")];
        headers.extend(extra);
        served.send("POST", "/api/v1/rpc/vm.list", &headers, body).await.status
    };
    assert_eq!(post(&[("origin", &own)]).await, 200);
    assert_eq!(post(&[("sec-fetch-site", "same-origin")]).await, 200);
    // A cookie alone does not say which page asks.
    assert_eq!(post(&[]).await, 403);
    for origin in ["http://evil.example", "http://127.0.0.1:1", "http://localhost:7770", "null"] {
        assert_eq!(post(&[("origin", origin)]).await, 403, "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(post(&[("sec-fetch-site", site)]).await, 403, "{site}");
        let read =
            served.send("GET", "/api/v1/vms", &[("cookie", &cookie), ("sec-fetch-site", site)], "").await;
        assert_eq!(read.status, 403, "{site}");
    }
    // A form cannot send JSON.
    let form = [("cookie", cookie.as_str()), ("origin", own.as_str()), ("content-type", "text/plain")];
    assert_eq!(served.send("POST", "/api/v1/rpc/vm.list", &form, body).await.status, 400);
    // A foreign page is refused though it has the token.
    let bearer = format!("Bearer {}", served.token);
    let stolen = [("authorization", bearer.as_str()), ("origin", "http://evil.example")];
    assert_eq!(served.send("GET", "/api/v1/vms", &stolen, "").await.status, 403);
    // No answer allows another origin to read it.
    let answer = served.send("GET", "/api/v1/vms", &stolen, "").await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_renewed_token_ends_what_was_opened_with_the_old_one() {
    let served = serve().await;
    let cookie = served.cookie().await;
    let answer = served.ask("POST", "/api/v1/system/api/token", "").await;
    let fresh = answer.json()["data"]["token"].as_str().unwrap().to_owned();
    assert_ne!(fresh, served.token);
    assert_eq!(served.ask("GET", "/api/v1/vms", "").await.status, 401);
    assert_eq!(served.send("GET", "/api/v1/vms", &[("cookie", &cookie)], "").await.status, 401);
    let bearer = format!("Bearer {fresh}");
    assert_eq!(served.send("GET", "/api/v1/vms", &[("authorization", &bearer)], "").await.status, 200);
}

#[tokio::test]
async fn answers_have_the_envelope_and_errors_their_code() {
    let served = serve().await;
    let list = served.ask("GET", "/api/v1/vms", "").await;
    let json = list.json();
    assert_eq!(
        (json["code"].as_u64(), json["message"].as_str(), &json["data"]),
        (Some(200), Some("OK"), &json!([]))
    );
    assert!(json["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let nobody = "/api/v1/vms/0190163d-8694-739b-aea5-966c26f8ad91";
    let demo = json!({ "kind": "demo" });
    for (method, path, body, status, code, field) in [
        ("GET", nobody, json!(null), 404, "vm_not_found", None),
        ("GET", "/api/v1/vms/not-an-id", json!(null), 400, "invalid_input", Some("id")),
        ("GET", "/api/v1/operations?limit=many", json!(null), 400, "invalid_input", Some("limit")),
        ("GET", "/api/v1/operations?limit=9999", json!(null), 400, "invalid_input", Some("limit")),
        ("POST", "/api/v1/vms", json!({ "source": demo }), 400, "invalid_input", Some("name")),
        (
            "POST",
            "/api/v1/vms",
            json!({ "name": "a", "source": demo, "colour": 1 }),
            400,
            "invalid_input",
            Some("colour"),
        ),
        ("POST", "/api/v1/vms", json!({ "name": " a", "source": demo }), 400, "invalid_input", Some("name")),
        ("POST", "/api/v1/vms", json!([1]), 400, "invalid_input", None),
        ("GET", "/api/v1/nowhere", json!(null), 404, "unknown_command", None),
        ("POST", "/api/v1/rpc/vm.explode", json!({}), 404, "unknown_command", None),
        ("PATCH", "/api/v1/vms", json!(null), 404, "unknown_command", None),
        ("GET", "/api/v1/files?path=relative", json!(null), 400, "invalid_input", Some("path")),
        ("GET", "/api/v1/files?path=/no/such", json!(null), 404, "not_found", Some("path")),
    ] {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = served.ask(method, path, &text).await;
        let json = answer.json();
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{method} {path} {json}");
        assert_eq!(json["error"]["field"].as_str(), field, "{method} {path} {json}");
        assert_eq!(json["code"], status);
        assert_eq!(json["error"]["traceId"].as_str().unwrap().len(), 32);
    }
    let broken = served.ask("POST", "/api/v1/vms", "{").await;
    assert_eq!((broken.status, broken.error_code().as_str()), (400, "invalid_input"));
    let large = served.ask("POST", "/api/v1/vms", &"x".repeat((1 << 20) + 1)).await;
    assert_eq!((large.status, large.error_code().as_str()), (400, "invalid_input"));
}

#[tokio::test]
async fn settings_are_changed_for_everybody_and_stay() {
    let served = serve().await;
    let view = served.ask("GET", "/api/v1/settings", "").await.json();
    let mut settings = view["data"]["settings"].clone();
    assert_eq!(view["data"]["origins"]["theme"], "default");
    settings["theme"] = json!("dark");
    let changed = served.ask("PUT", "/api/v1/settings", &json!({ "settings": settings }).to_string()).await;
    assert_eq!(changed.json()["data"]["origins"]["theme"], "user");
    settings["localApiPort"] = json!(80);
    let refused = served.ask("PUT", "/api/v1/settings", &json!({ "settings": settings }).to_string()).await;
    assert_eq!(refused.json()["error"]["field"], "settings.localApiPort");
    let Served { root, host, api, .. } = served;
    api.stop().await;
    host.close().await;
    drop(host);
    let config = support::config(root.path(), &[]);
    let again = voidvm_host::Access::open(config).await.unwrap();
    let view = again.call("settings.get", json!(null), voidvm_model::Origin::System).await.unwrap();
    assert_eq!(view["settings"]["theme"], "dark");
    assert_eq!(view["settings"]["localApiPort"], 7770);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let served = serve().await;
    for path in ["/", "/api/v1/vms", "/no/such.js"] {
        let answer = served.send("GET", path, &[], "").await;
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe-eval"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-frame-options"], "DENY");
    }
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let served = serve().await;
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let error = voidvm_server::LocalApi::start(&served.host, address.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.code, voidvm_model::ErrorCode::InvalidInput, "{address}");
    }
    let taken = voidvm_server::LocalApi::start(&served.host, served.api.address()).await.unwrap_err();
    assert_eq!(taken.code, voidvm_model::ErrorCode::PortInUse);
}

#[tokio::test]
async fn the_openapi_document_has_every_command() {
    let served = serve().await;
    let document = served.ask("GET", "/api/v1/openapi.json", "").await.json();
    for command in COMMANDS {
        let operation =
            &document["paths"][format!("/api/v1{}", command.path)][method(command.method).to_lowercase()];
        assert_eq!(operation["operationId"], command.name);
    }
}
