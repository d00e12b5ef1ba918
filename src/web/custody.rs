//! What the ledger tells over HTTP. A value that may be of a patient comes in the body of a POST; a path has our own ids and days only.
use super::Desk;
use super::auth::Denied;
use crate::base::names::InstanceId;
use crate::custody::query::{LIMIT, Query, QueryError, Subject};
use crate::custody::reconcile::{Day, ReconcileError, Report};
use crate::custody::{Caller, TraceError};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

/// A question by value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    value: String,
    #[serde(default = "any")]
    by: Subject,
    #[serde(default)]
    after: Option<String>,
    #[serde(default = "limit")]
    limit: usize,
}

fn any() -> Subject {
    Subject::Any
}

fn limit() -> usize {
    LIMIT
}

/// A day to reconcile; today so far without one.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    day: Option<String>,
}

/// The answer to whom nobody knows, or who asks too often.
pub(super) fn denied(denied: Denied) -> Response {
    let words = match denied {
        Denied::Unknown => "a token of one of [[web.callers]] is needed: Authorization: Bearer TOKEN",
        Denied::Pace => "too many requests: ask again in a minute",
    };
    let mut response = say(denied.status(), words);
    let (name, value) = match denied {
        Denied::Unknown => (header::WWW_AUTHENTICATE, "Bearer"),
        Denied::Pace => (header::RETRY_AFTER, "60"),
    };
    response
        .headers_mut()
        .insert(name, header::HeaderValue::from_static(value));
    response
}

fn say(status: StatusCode, words: &str) -> Response {
    (status, Json(serde_json::json!({ "error": words }))).into_response()
}

fn failed(error: &TraceError) -> Response {
    let status = match error {
        TraceError::Query(QueryError::Forbidden) => StatusCode::FORBIDDEN,
        TraceError::Query(_) => StatusCode::BAD_REQUEST,
        TraceError::Read(_) | TraceError::NotRecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    say(status, &error.to_string())
}

pub(super) async fn trace(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Question>, JsonRejection>,
) -> Response {
    let question = match body {
        Ok(Json(question)) => question,
        Err(rejection) => return unreadable(&rejection),
    };
    let after = match question.after.as_deref().map(InstanceId::parse).transpose() {
        Ok(after) => after,
        Err(_) => return say(StatusCode::BAD_REQUEST, "`after` is not an instance id"),
    };
    let query = Query::parse(question.value, question.by, after, question.limit);
    answer(&desk, query, &caller).await
}

/// serde's words may quote the body, which may be of a patient.
fn unreadable(rejection: &JsonRejection) -> Response {
    let status = rejection.status();
    let words = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "the body must be JSON: Content-Type: application/json",
        _ => {
            "the body must be {\"value\": TEXT, \"by\": KIND, \"after\": ID, \"limit\": NUMBER}, all but the value optional; KIND is \
             any, patient, accession, study, series, sop or instance"
        }
    };
    say(status, words)
}

async fn answer(desk: &Desk, query: Result<Query, QueryError>, caller: &Caller) -> Response {
    let query = match query {
        Ok(query) => query,
        Err(error) => return failed(&error.into()),
    };
    match desk.custody.trace(&query, caller).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn instance(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    answer(&desk, Query::parse(id, Subject::Instance, None, 1), &caller).await
}

pub(super) async fn last_report(State(desk): State<Desk>) -> Response {
    kept(&desk, None).await
}

pub(super) async fn report(State(desk): State<Desk>, Path(day): Path<String>) -> Response {
    match Day::parse(&day) {
        Ok(day) => kept(&desk, Some(day)).await,
        Err(error) => say(StatusCode::BAD_REQUEST, &format!("the day {error}")),
    }
}

async fn kept(desk: &Desk, day: Option<Day>) -> Response {
    match desk.reconciler.kept(day).await {
        Ok(Some(report)) => shown(&report),
        Ok(None) if day.is_none() => say(StatusCode::NOT_FOUND, "no report was made yet"),
        Ok(None) => say(StatusCode::NOT_FOUND, "there is no report of that day"),
        Err(_) => say(StatusCode::SERVICE_UNAVAILABLE, "the report cannot be read"),
    }
}

fn shown(report: &Report) -> Response {
    Json(report).into_response()
}

pub(super) async fn reconcile(State(desk): State<Desk>, body: Result<Json<Which>, JsonRejection>) -> Response {
    let which = match body {
        Ok(Json(which)) => which,
        Err(JsonRejection::MissingJsonContentType(_)) => {
            return say(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be sent with Content-Type: application/json",
            );
        }
        Err(rejection) => return say(rejection.status(), "the body must be {} or {\"day\": \"YYYY-MM-DD\"}"),
    };
    let day = match which.day.as_deref().map(Day::parse).transpose() {
        Ok(day) => day,
        Err(error) => return say(StatusCode::BAD_REQUEST, &format!("the day {error}")),
    };
    match desk.reconciler.reconcile(day).await {
        Ok(report) => shown(&report),
        Err(error @ ReconcileError::Future) => say(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ (ReconcileError::Busy | ReconcileError::Forgotten | ReconcileError::Older(_))) => {
            say(StatusCode::CONFLICT, &error.to_string())
        }
        Err(ReconcileError::Read(_) | ReconcileError::Write(_)) => {
            say(StatusCode::SERVICE_UNAVAILABLE, "the report cannot be made now")
        }
    }
}

pub(super) async fn ledger(State(desk): State<Desk>) -> Response {
    match desk.custody.ledger_end().await {
        Ok((line, head)) => Json(serde_json::json!({ "line": line, "head": head })).into_response(),
        Err(error) => say(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}
