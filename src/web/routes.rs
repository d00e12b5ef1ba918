//! Every path that there is. What is not here is 404; another method than those named is 405.
use super::auth::Callers;
use super::{Desk, Shared, Standing, custody};
use crate::telemetry::openmetrics;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// A question has a value of 64 characters.
const BODY_MAX: usize = 4 << 10;

pub(super) fn router(shared: Shared) -> Router {
    let open = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shared.clone());
    let router = match shared.desk {
        Some(desk) => open.merge(for_callers(desk, shared.callers)),
        None => open,
    };
    router
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(axum::middleware::map_response(plain))
}

/// What only callers may have: none of these is reached, and no body read, before the token was looked at.
fn for_callers(desk: Desk, callers: Arc<Callers>) -> Router {
    Router::new()
        .route("/v1/trace", post(custody::trace))
        .route("/v1/instances/{id}", get(custody::instance))
        .route("/v1/reconciliation", get(custody::last_report).post(custody::reconcile))
        .route("/v1/reconciliation/{day}", get(custody::report))
        .route("/v1/ledger", get(custody::ledger))
        .route_layer(axum::middleware::from_fn_with_state(callers, admitted))
        .with_state(desk)
}

async fn admitted(State(callers): State<Arc<Callers>>, mut request: Request, next: Next) -> Response {
    match callers.admit(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => custody::denied(denied),
    }
}

/// No browser is to guess a type or keep an answer.
async fn plain(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The older text format, or OpenMetrics (which has exemplars) for a scraper that asks for it.
async fn metrics(State(shared): State<Shared>, asked: HeaderMap) -> Response {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(openmetrics::MEDIA_TYPE));
    let (kind, text) = if asked.get_all(header::ACCEPT).iter().any(accepts) {
        (openmetrics::CONTENT_TYPE, shared.metrics.open_metrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", shared.metrics.text())
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

async fn ready(State(shared): State<Shared>) -> Response {
    let Standing { reasons, notes } = (shared.readiness)();
    let ready = reasons.is_empty();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(Ready { ready, reasons, notes })).into_response()
}
