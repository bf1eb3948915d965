//! Request ids: taken from `x-request-id` or made, returned to the caller, and part of every log line of the call.

use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument as _, instrument::Instrumented};
use uuid::Uuid;

static HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a caller.
const LONGEST: usize = 64;

/// Gives every call of a service an id.
#[derive(Debug, Clone, Copy)]
pub struct RequestIdLayer;

/// A service whose calls have ids.
#[derive(Debug, Clone)]
pub struct RequestId<S> {
    inner: S,
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestId<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestId { inner }
    }
}

impl<S, B, R> Service<Request<B>> for RequestId<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<Tagged<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = request
            .headers()
            .get(&HEADER)
            .filter(|value| value.len() <= LONGEST && value.to_str().is_ok())
            .cloned()
            .or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).ok());
        let span = tracing::debug_span!("call", path = request.uri().path(), request_id = ?id);
        Tagged {
            inner: self.inner.call(request),
            id,
        }
        .instrument(span)
    }
}

pin_project_lite::pin_project! {
    /// A call that returns its id.
    pub struct Tagged<F> {
        #[pin]
        inner: F,
        id: Option<HeaderValue>,
    }
}

impl<F, R, E> Future for Tagged<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(context).map_ok(|mut response| {
            if let Some(id) = this.id.take() {
                response.headers_mut().insert(HEADER.clone(), id);
            }
            response
        })
    }
}
