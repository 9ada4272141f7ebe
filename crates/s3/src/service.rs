//! S3's operations over the [`Disk`].
//!
//! What always holds: a body is bounded in size and in the time between two pieces; an object appears only after its whole body came and
//! matched the announced length; an answer with a body states its length.

use crate::disk::{Disk, Publish, Stat, Temp, disk_error};
use crate::listing::{PAGE_MAX, Query, list};
use crate::parts::{Named, Upload};
use bytes::Bytes;
use futures::StreamExt;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range as ByteRange;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Bytes read from disk and handed to the network at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of a slow client.
const CHUNKS_AHEAD: usize = 4;
/// Longest pause between two pieces of a body, either way.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Most objects of one DeleteObjects.
const DELETES_MAX: usize = 1000;

/// The operations.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) disk: Arc<Disk>,
    pub(crate) object_bytes_max: u64,
}

impl Service {
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Disk>) -> S3Result<T> + Send + 'static) -> S3Result<T> {
        let disk = Arc::clone(&self.disk);
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        done.unwrap_or_else(|error| Err(s3_error!(InternalError, "the work was cut off: {}", error)))
    }

    /// Writes a body to a temporary file.
    async fn receive(&self, body: Option<StreamingBlob>, announced: Option<i64>) -> S3Result<(Temp, File)> {
        let announced = announced.map(|length| u64::try_from(length).unwrap_or(0));
        if announced.is_some_and(|length| length > self.object_bytes_max) {
            return Err(self.too_large());
        }
        let temp = self.disk.temp();
        let mut file = tokio::fs::File::create_new(&temp.path).await.map_err(disk_error)?;
        let mut size = 0_u64;
        if let Some(mut body) = body {
            loop {
                let next = timeout(STALL_MAX, body.next()).await;
                let Some(chunk) = next.map_err(|_| s3_error!(RequestTimeout, "the body stalled"))? else { break };
                let chunk = chunk.map_err(|error| s3_error!(IncompleteBody, "the body broke off: {}", error))?;
                size = size.saturating_add(chunk.len() as u64);
                if size > self.object_bytes_max {
                    return Err(self.too_large());
                }
                file.write_all(&chunk).await.map_err(disk_error)?;
            }
        }
        if announced.is_some_and(|length| length != size) {
            return Err(s3_error!(IncompleteBody, "the body has {} bytes, other than announced", size));
        }
        file.flush().await.map_err(disk_error)?;
        Ok((temp, file.into_std().await))
    }

    fn too_large(&self) -> s3s::S3Error {
        s3_error!(EntityTooLarge, "an object has at most {} bytes here", self.object_bytes_max)
    }
}

fn publish_mode(if_none_match: Option<&ETagCondition>, if_match: Option<&ETagCondition>) -> S3Result<Publish> {
    match (if_none_match, if_match) {
        (None, None) => Ok(Publish::Replace),
        (Some(ETagCondition::Any), None) => Ok(Publish::IfAbsent),
        _ => Err(s3_error!(NotImplemented, "the only condition of a put is If-None-Match: *")),
    }
}

/// Evaluates a read's conditions.
fn check_conditions(stat: &Stat, if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<()> {
    let etag = ETag::Strong(stat.etag.clone());
    let meets = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(other) => etag.weak_cmp(other),
    };
    if if_match.is_some_and(|condition| !meets(condition)) {
        return Err(s3_error!(PreconditionFailed, "the object is another one"));
    }
    if if_none_match.is_some_and(meets) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// The bytes to send, and the header that says so if it is not all.
fn resolve(range: Option<Range>, size: u64) -> S3Result<(ByteRange<u64>, Option<String>)> {
    let Some(range) = range else { return Ok((0..size, None)) };
    let bytes = range.check(size).map_err(|_| s3_error!(InvalidRange, "the object has {} bytes", size))?;
    if bytes.is_empty() {
        return Err(s3_error!(InvalidRange, "the object is empty"));
    }
    let header = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
    Ok((bytes, Some(header)))
}

fn length(bytes: u64) -> S3Result<Option<i64>> {
    i64::try_from(bytes).map(Some).map_err(|_| s3_error!(InternalError))
}

/// Sends `bytes` of `file`, read ahead by a little on a thread that may block.
fn send(mut file: File, bytes: ByteRange<u64>) -> StreamingBlob {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut left = bytes.end - bytes.start;
        let mut start = file.seek(SeekFrom::Start(bytes.start)).map(drop);
        while left > 0 {
            let chunk = std::mem::replace(&mut start, Ok(())).and_then(|()| read_chunk(&mut file, left));
            left -= chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
            // A client that went away or that stalls ends the work.
            if !matches!(runtime.block_on(timeout(STALL_MAX, sender.send(chunk))), Ok(Ok(()))) {
                return;
            }
        }
    });
    StreamingBlob::wrap(futures::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

fn read_chunk(file: &mut File, left: u64) -> io::Result<Bytes> {
    let size = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let mut chunk = vec![0; size];
    file.read_exact(&mut chunk)?;
    Ok(chunk.into())
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let how = publish_mode(input.if_none_match.as_ref(), input.if_match.as_ref())?;
        self.disk.object(&input.bucket, &input.key)?;
        let (temp, file) = self.receive(input.body, input.content_length).await?;
        let stat = self.blocking(move |disk| disk.publish(temp, &file, &input.bucket, &input.key, how)).await?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(stat.etag)), ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (file, stat) = self.blocking(move |disk| disk.read(&input.bucket, &input.key)).await?;
        check_conditions(&stat, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (bytes, content_range) = resolve(input.range, stat.size)?;
        Ok(S3Response::new(GetObjectOutput {
            content_length: length(bytes.end - bytes.start)?,
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(stat.etag)),
            last_modified: Some(stat.modified.into()),
            body: Some(send(file, bytes)),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (_, stat) = self.blocking(move |disk| disk.read(&input.bucket, &input.key)).await?;
        check_conditions(&stat, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (bytes, content_range) = resolve(input.range, stat.size)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: length(bytes.end - bytes.start)?,
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(stat.etag)),
            last_modified: Some(stat.modified.into()),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.blocking(move |disk| disk.delete(&input.bucket, &input.key)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        if input.delete.objects.len() > DELETES_MAX {
            return Err(s3_error!(MalformedXML, "at most {} objects are deleted at once", DELETES_MAX));
        }
        let delete = move |disk: &Arc<Disk>| {
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in input.delete.objects {
                match disk.delete(&input.bucket, &object.key) {
                    Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..Default::default() }),
                    Err(error) => errors.push(Error {
                        key: Some(object.key),
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        ..Default::default()
                    }),
                }
            }
            Ok(DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() })
        };
        Ok(S3Response::new(self.blocking(delete).await?))
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let after = match &input.continuation_token {
            Some(token) => decode_token(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let max = input.max_keys.map_or(PAGE_MAX, |max| usize::try_from(max).unwrap_or(0).min(PAGE_MAX));
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let query = Query { prefix: input.prefix.clone().unwrap_or_default(), delimiter, after, max };
        let bucket = input.bucket.clone();
        let page = self.blocking(move |disk| list(&disk.bucket(&bucket), &query)).await?;
        let last = page.items.last().map(|(name, _)| hex::encode(name));
        let count = i32::try_from(page.items.len()).unwrap_or(i32::MAX);
        let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
        for (name, stat) in page.items {
            match stat {
                Some(stat) => contents.push(Object {
                    key: Some(name),
                    size: length(stat.size)?,
                    e_tag: Some(ETag::Strong(stat.etag)),
                    last_modified: Some(stat.modified.into()),
                    ..Default::default()
                }),
                None => prefixes.push(CommonPrefix { prefix: Some(name) }),
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: i32::try_from(max).ok(),
            key_count: Some(count),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            is_truncated: Some(page.truncated),
            next_continuation_token: last.filter(|_| page.truncated),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            ..Default::default()
        }))
    }

    async fn head_bucket(&self, _request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        // That there is one was decided by the access table; its directory comes with its first object.
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(&self, _request: S3Request<GetBucketLocationInput>) -> S3Result<S3Response<GetBucketLocationOutput>> {
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (bucket, key) = (request.input.bucket, request.input.key);
        let (b, k) = (bucket.clone(), key.clone());
        let id = self.blocking(move |disk| disk.start_upload(&b, &k)).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput { bucket: Some(bucket), key: Some(key), upload_id: Some(id), ..Default::default() }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let UploadPartInput { bucket, key, upload_id, part_number, body, content_length, .. } = request.input;
        let work = move |disk: &Arc<Disk>, received: Option<(Temp, File)>| {
            let upload = Upload { id: &upload_id, bucket: &bucket, key: &key };
            match received {
                None => disk.check_part(&upload, part_number).map(|()| None),
                Some((temp, file)) => disk.keep_part(&upload, part_number, temp, &file).map(Some),
            }
        };
        let work = Arc::new(work);
        let first = Arc::clone(&work);
        self.blocking(move |disk| first(disk, None)).await?;
        let received = self.receive(body, content_length).await?;
        let stat = self.blocking(move |disk| work(disk, Some(received))).await?;
        let e_tag = stat.map(|stat| ETag::Strong(stat.etag));
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let how = publish_mode(input.if_none_match.as_ref(), input.if_match.as_ref())?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named: Vec<_> =
            parts.into_iter().map(|part| Named { number: part.part_number.unwrap_or(0), etag: part.e_tag.map(ETag::into_value) }).collect();
        let (bucket, key, id, max_bytes) = (input.bucket.clone(), input.key.clone(), input.upload_id, self.object_bytes_max);
        let work = move |disk: &Arc<Disk>| disk.complete_upload(&Upload { id: &id, bucket: &bucket, key: &key }, &named, max_bytes, how);
        let stat = self.blocking(work).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(stat.etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.blocking(move |disk| disk.abort_upload(&Upload { id: &upload_id, bucket: &bucket, key: &key })).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let name = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of ours"))
}
