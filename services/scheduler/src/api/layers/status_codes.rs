//! Codes that tonic chooses differently from the rest of the gRPC world.
//!
//! A message that is too large is RESOURCE_EXHAUSTED elsewhere and OUT_OF_RANGE in tonic; bytes that are no message
//! are the caller's mistake, and INTERNAL in tonic.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Repairs the codes of a service's refusals.
#[derive(Debug, Clone, Copy)]
pub struct StatusCodesLayer;

/// A service whose refusals carry the usual codes.
#[derive(Debug, Clone)]
pub struct StatusCodes<S> {
    inner: S,
}

impl<S> Layer<S> for StatusCodesLayer {
    type Service = StatusCodes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StatusCodes { inner }
    }
}

impl<S, B, R> Service<Request<B>> for StatusCodes<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = StatusCodesFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        StatusCodesFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// A call whose refusal is repaired.
    pub struct StatusCodesFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, R, E> Future for StatusCodesFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(context).map_ok(|mut response| {
            repair(response.headers_mut());
            response
        })
    }
}

fn repair(headers: &mut HeaderMap) {
    let is = |code: Code| {
        headers
            .get(STATUS)
            .is_some_and(|value| *value == (code as i32).to_string())
    };
    let says = |text: &str| {
        headers
            .get(MESSAGE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|message| message.contains(text))
    };
    // Messages are percent-encoded on the wire.
    let code = if is(Code::OutOfRange) && says("message%20length%20too%20large") {
        Code::ResourceExhausted
    } else if is(Code::Internal) && says("failed%20to%20decode%20Protobuf") {
        Code::InvalidArgument
    } else {
        return;
    };
    headers.insert(STATUS, HeaderValue::from(code as i32));
}
