//! WorkerService: the two streams of a worker, and the list of workers.

use prost::Message as _;
use tasklease_proto::{
    convert::timestamp_to_wire,
    v1::{self, worker_service_server::WorkerService},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    Api, claim_stream,
    page::{self, Page},
    report_stream,
    task::FIELD_BYTES,
};
use crate::{
    domain::{error::Error, ids::SessionId, limits},
    store::WorkerRecord,
};

#[tonic::async_trait]
impl WorkerService for Api {
    type ClaimTaskStream = ReceiverStream<Result<v1::ClaimTaskResponse, Status>>;
    type ReportProgressStream = ReceiverStream<Result<v1::ReportProgressResponse, Status>>;

    async fn claim_task(
        &self,
        request: Request<Streaming<v1::ClaimTaskRequest>>,
    ) -> Result<Response<Self::ClaimTaskStream>, Status> {
        Ok(Response::new(claim_stream::open(self, request.into_inner())))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<v1::ReportProgressRequest>>,
    ) -> Result<Response<Self::ReportProgressStream>, Status> {
        Ok(Response::new(report_stream::open(self, request.into_inner())))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let page = page::check(request.page_size, &request.page_token, "workers").map_err(Error::from)?;
        Ok(Response::new(self.page_of_workers(page).await?))
    }
}

impl Api {
    /// As many workers as are wanted and fit.
    async fn page_of_workers(&self, wanted: Page) -> Result<v1::ListWorkersResponse, Error> {
        let mut after = wanted.after.unwrap_or(Uuid::nil());
        let mut page = v1::ListWorkersResponse::default();
        let mut bytes = 0;
        loop {
            let read = self.engine.db().list_workers(SessionId(after), READ).await?;
            let more = i64::try_from(read.len()).is_ok_and(|found| found == READ);
            for record in read {
                let id = record.id;
                let worker = v1::Worker::from(record);
                bytes += worker.encoded_len() + FIELD_BYTES;
                if page.workers.len() == wanted.size
                    || (bytes > limits::MESSAGE_BYTES && !page.workers.is_empty())
                {
                    page.next_page_token = page::token(after, "workers");
                    return Ok(page);
                }
                page.workers.push(worker);
                after = id.0;
            }
            if !more {
                return Ok(page);
            }
        }
    }
}

/// Workers read at once; each may name a thousand types.
const READ: i64 = 50;

impl From<WorkerRecord> for v1::Worker {
    fn from(worker: WorkerRecord) -> Self {
        Self {
            session_id: worker.id.to_string(),
            name: worker.name,
            incarnation: worker.incarnation,
            task_types: worker.task_types,
            queues: worker.queues,
            labels: worker.labels.into_iter().collect(),
            slots: worker.slots,
            running: worker.running,
            create_time: Some(timestamp_to_wire(worker.created_at)),
            heartbeat_time: Some(timestamp_to_wire(worker.heartbeat_at)),
            scheduler: worker.scheduler,
        }
    }
}
