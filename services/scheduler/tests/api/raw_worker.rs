//! A worker that says exactly what a test tells it to.

use tasklease_proto::v1::{
    self, claim_task_request::Message as ToClaim, claim_task_response::Message as FromClaim, report::Body,
    report_progress_request::Message as ToReport, report_progress_response::Message as FromReport,
    worker_service_client::WorkerServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::scheduler::soon;

/// One ClaimTask stream.
pub(crate) struct ClaimStream {
    out: mpsc::Sender<v1::ClaimTaskRequest>,
    messages: Streaming<v1::ClaimTaskResponse>,
}

impl ClaimStream {
    pub(crate) async fn open(channel: &Channel) -> Self {
        let (out, requests) = mpsc::channel(64);
        let messages = WorkerServiceClient::new(channel.clone())
            .claim_task(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self { out, messages }
    }

    pub(crate) async fn say(&self, message: ToClaim) {
        let request = v1::ClaimTaskRequest {
            message: Some(message),
        };
        self.out.send(request).await.unwrap();
    }

    pub(crate) async fn credit(&self, tasks: i32) {
        self.say(ToClaim::Credit(v1::Credit { tasks })).await;
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Option<FromClaim>, Status> {
        loop {
            let message = soon("a ClaimTask message", self.messages.message()).await?;
            match message.map(|response| response.message.expect("a message says something")) {
                Some(FromClaim::KeepAlive(_)) => {}
                other => return Ok(other),
            }
        }
    }

    /// Says hello and returns the session.
    pub(crate) async fn hello(&mut self, hello: v1::WorkerHello) -> v1::SessionOpened {
        self.say(ToClaim::Hello(hello)).await;
        match self.next().await.unwrap() {
            Some(FromClaim::Session(session)) => session,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    /// Waits until `count` tasks have come.
    pub(crate) async fn leases(&mut self, count: usize) -> Vec<v1::LeasedTask> {
        let mut tasks = Vec::new();
        while tasks.len() < count {
            match self.next().await.unwrap() {
                Some(FromClaim::Leases(batch)) => {
                    assert!(!batch.tasks.is_empty());
                    tasks.extend(batch.tasks);
                }
                other => panic!("expected leases, got {other:?}"),
            }
        }
        assert_eq!(tasks.len(), count, "more tasks came than expected");
        tasks
    }
}

/// One ReportProgress stream.
pub(crate) struct ReportStream {
    out: mpsc::Sender<v1::ReportProgressRequest>,
    messages: Streaming<v1::ReportProgressResponse>,
    sequence: u64,
}

impl ReportStream {
    pub(crate) async fn open(channel: &Channel) -> Self {
        let (out, requests) = mpsc::channel(64);
        let messages = WorkerServiceClient::new(channel.clone())
            .report_progress(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self {
            out,
            messages,
            sequence: 0,
        }
    }

    /// Sends a message and returns its sequence.
    pub(crate) async fn say(&mut self, message: ToReport) -> u64 {
        self.sequence += 1;
        let request = v1::ReportProgressRequest {
            sequence: self.sequence,
            message: Some(message),
        };
        self.out.send(request).await.unwrap();
        self.sequence
    }

    pub(crate) async fn next(&mut self) -> Result<Option<FromReport>, Status> {
        let message = soon("a ReportProgress message", self.messages.message()).await?;
        Ok(message.map(|response| response.message.expect("a message says something")))
    }

    pub(crate) async fn open_session(&mut self, session: &str) -> Result<Option<FromReport>, Status> {
        let open = v1::ReportOpen {
            session_id: session.into(),
            held: None,
        };
        self.say(ToReport::Open(open)).await;
        self.next().await
    }

    /// Sends a message and waits for its acknowledgement.
    pub(crate) async fn acknowledged(&mut self, message: ToReport) -> v1::Acknowledgement {
        let sequence = self.say(message).await;
        match self.next().await.unwrap() {
            Some(FromReport::Acknowledgement(acknowledgement)) => {
                assert_eq!(acknowledgement.sequences, [sequence]);
                acknowledgement
            }
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }

    pub(crate) async fn report(&mut self, reports: Vec<v1::Report>) -> v1::Acknowledgement {
        self.acknowledged(ToReport::Reports(v1::ReportBatch { reports }))
            .await
    }

    /// Sends body of one lease, and fails unless they are taken.
    pub(crate) async fn tell(&mut self, task: &v1::LeasedTask, body: Body) {
        let acknowledgement = self.report(vec![report(task, body)]).await;
        assert!(
            acknowledgement.stale.is_empty() && acknowledgement.refused.is_empty(),
            "{acknowledgement:?}"
        );
    }
}

/// Both streams of a session.
pub(crate) struct RawWorker {
    pub(crate) session: String,
    pub(crate) claim: ClaimStream,
    pub(crate) report: ReportStream,
}

impl RawWorker {
    /// Connects a worker for type `t` of the default queue.
    pub(crate) async fn connect(channel: &Channel) -> Self {
        Self::connect_as(channel, hello()).await
    }

    pub(crate) async fn connect_as(channel: &Channel, hello: v1::WorkerHello) -> Self {
        let mut claim = ClaimStream::open(channel).await;
        let session = claim.hello(hello).await.session_id;
        let mut report = ReportStream::open(channel).await;
        let opened = report.open_session(&session).await.unwrap();
        assert!(matches!(opened, Some(FromReport::Opened(_))), "{opened:?}");
        Self {
            session,
            claim,
            report,
        }
    }

    /// Takes and accepts `count` tasks.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<v1::LeasedTask> {
        self.claim.credit(i32::try_from(count).unwrap()).await;
        let tasks = self.claim.leases(count).await;
        for task in &tasks {
            self.report.tell(task, Body::Accepted(v1::Accepted {})).await;
        }
        tasks
    }

    /// Takes and accepts one task.
    pub(crate) async fn take_one(&mut self) -> v1::LeasedTask {
        self.take(1).await.remove(0)
    }
}

pub(crate) fn hello() -> v1::WorkerHello {
    v1::WorkerHello {
        name: "raw".into(),
        incarnation: "1".into(),
        task_types: vec!["t".into()],
        slots: 10,
        ..Default::default()
    }
}

pub(crate) fn report(task: &v1::LeasedTask, body: Body) -> v1::Report {
    v1::Report {
        task_id: task.task_id.clone(),
        lease_token: task.lease_token,
        body: Some(body),
    }
}

pub(crate) fn succeeded() -> Body {
    Body::Succeeded(v1::Succeeded {
        output: Some(v1::succeeded::Output::ResultJson(r#"{"ok":true}"#.into())),
    })
}

pub(crate) fn failed(non_retryable: bool) -> Body {
    Body::Failed(v1::Failed {
        error: Some(v1::TaskError {
            kind: "BOOM".into(),
            message: "it broke".into(),
            detail: String::new(),
        }),
        non_retryable,
        retry_after: None,
    })
}

pub(crate) fn progress(event_number: i64, percent: f64) -> Body {
    Body::Progress(v1::ProgressReport {
        event_number,
        progress: Some(v1::Progress {
            percent: Some(percent),
            message: format!("at {percent}"),
            heading: "a heading".into(),
            ..Default::default()
        }),
    })
}

pub(crate) fn log(event_number: i64, message: &str) -> Body {
    Body::Log(v1::LogReport {
        event_number,
        line: Some(v1::LogLine {
            level: v1::LogLevel::Info.into(),
            message: message.into(),
            ..Default::default()
        }),
    })
}
