//! From a request to an answer.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
        REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};

use super::{body::AnswerBody, events::Followers, page};
use crate::{
    control::{ControlContext, WriteAnswer, api_index},
    tasks,
    visitors::Visitors,
};

/// The least time from one answer to the next.
const SPACING: Duration = Duration::from_millis(1);
/// How long the needed tasks may take to prove that they run. A session that closes its connection
/// takes seconds.
const PROOF: Duration = Duration::from_secs(10);
/// How long what sessions and displays share may be held.
const PROBE: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const EVENTS: &str = "text/event-stream";
const HTML: &str = "text/html; charset=utf-8";
/// For everything but the status page.
const NO_CONTENT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// What the connections of a server share. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) context: ControlContext,
    pub(super) visitors: Visitors,
    pub(super) followers: Followers,
    /// Held by who looks at the kernel or at all sessions.
    looking: Arc<Mutex<()>>,
    /// When the next answer may be made.
    next: Arc<StdMutex<Instant>>,
}

/// An answer without its body.
type HttpResponse = Response<AnswerBody>;

impl Server {
    pub(super) fn new(context: ControlContext, visitors: Visitors) -> Self {
        Self {
            context,
            visitors,
            followers: Followers::new(),
            looking: Arc::default(),
            next: Arc::new(StdMutex::new(Instant::now())),
        }
    }

    /// Answers a request. No error is left: whatever fails is an answer too.
    pub(super) async fn answer(&self, request: &Request<Incoming>) -> HttpResponse {
        self.context.http.count_request();
        self.turn().await;
        let only_head = request.method() == Method::HEAD;
        if !only_head && request.method() != Method::GET {
            let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return closing(answer);
        }
        if !request.body().is_end_stream() {
            return closing(refusal(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body"));
        }
        let path = request.uri().path();
        if only_head && path == "/api/v1/events" {
            return answer(StatusCode::OK, EVENTS, AnswerBody::text(""));
        }
        let mut answer = self.answer_path(path).await;
        if only_head {
            *answer.body_mut() = AnswerBody::Text(None);
        }
        answer
    }

    /// Waits until an answer may be made. So many requests cost no more than a thousand a second.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + SPACING;
            turn
        };
        sleep_until(turn).await;
    }

    async fn answer_path(&self, path: &str) -> HttpResponse {
        match path {
            "/" => {
                let mut page = answer(StatusCode::OK, HTML, AnswerBody::text(page::PAGE.clone()));
                set(&mut page, CONTENT_SECURITY_POLICY, page::POLICY.clone());
                page
            }
            "/healthz" => self.health().await,
            "/readyz" => self.readiness().await,
            "/metrics" => self.made(METRICS, self.context.metrics()).await,
            "/api/v1" | "/api/v1/" => self.made(JSON, api_index()).await,
            "/api/v1/events" => match self.followers.follow() {
                Some(events) => answer(StatusCode::OK, EVENTS, AnswerBody::Events(events)),
                None => unavailable("too many follow the events already"),
            },
            _ => match path.strip_prefix("/api/v1/").and_then(|path| self.context.api(path)) {
                Some(make) => self.made(JSON, make).await,
                None => refusal(StatusCode::NOT_FOUND, "there is nothing here: / /metrics /healthz /readyz /api/v1"),
            },
        }
    }

    /// Returns an answer that is made on a thread of its own.
    ///
    /// Before the pins of an earlier bmpd are taken over, the kernel's counters would begin at
    /// zero.
    async fn made(&self, kind: &'static str, make: WriteAnswer) -> HttpResponse {
        if !self.context.pins.is_settled() {
            return unavailable("the pins of the configuration are not in force yet");
        }
        match AnswerBody::made_by(make).await {
            Ok(body) => answer(StatusCode::OK, kind, body),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// Answers whether the pins of the configuration are in force.
    async fn readiness(&self) -> HttpResponse {
        let _one_at_a_time = self.looking.lock().await;
        let context = self.context.clone();
        match tasks::blocking(move || context.not_ready()).await {
            Ok(faults) if faults.is_empty() => answer(StatusCode::OK, TEXT, AnswerBody::text("ready\n")),
            Ok(faults) => unavailable(&faults.join("\n")),
            Err(error) => unavailable(&error.to_string()),
        }
    }

    /// Answers whether every needed task runs, and what others wait for can be had.
    async fn health(&self) -> HttpResponse {
        let _one_at_a_time = self.looking.lock().await;
        let late = tasks::unproven(PROOF).await;
        if !late.is_empty() {
            return unavailable(&tasks::hang(&late));
        }
        let context = self.context.clone();
        match timeout(PROBE, tasks::blocking(move || context.probe())).await {
            Ok(Ok(())) => answer(StatusCode::OK, TEXT, AnswerBody::text("alive\n")),
            Ok(Err(error)) => unavailable(&error.to_string()),
            Err(_late) => unavailable(&format!("bmpd has not answered within {} s", PROBE.as_secs())),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: AnswerBody) -> HttpResponse {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, NO_CONTENT_POLICY),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        set(&mut answer, name, HeaderValue::from_static(value));
    }
    answer
}

fn set(answer: &mut HttpResponse, name: HeaderName, value: HeaderValue) {
    answer.headers_mut().insert(name, value);
}

fn refusal(status: StatusCode, why: &str) -> HttpResponse {
    answer(status, TEXT, AnswerBody::text(format!("{why}\n")))
}

fn unavailable(why: &str) -> HttpResponse {
    let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, why);
    set(&mut answer, RETRY_AFTER, HeaderValue::from_static("2"));
    answer
}

/// Has the connection end behind the answer. Nobody reads what else the client sends.
fn closing(mut answer: HttpResponse) -> HttpResponse {
    set(&mut answer, CONNECTION, HeaderValue::from_static("close"));
    answer
}
