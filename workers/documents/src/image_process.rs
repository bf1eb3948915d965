//! `image_process`: loads an image, resizes it, converts it and saves it.
//!
//! Colours keep their meaning. A colour profile of RGB goes along into JPEG, PNG, WebP and TIFF;
//! GIF and BMP hold none and get sRGB, and so does every image of grey or of inks whose profile
//! says what they mean. Transparency is drawn on white in JPEG and BMP, and is all or nothing in GIF.
//!
//! Of a JPEG file the picture is what libjpeg shows. Arithmetic and lossless coding, samples of
//! twelve bits and a few orders of scans that no encoder in use writes are refused as
//! `UNSUPPORTED_FORMAT`.
//!
//! Memory is bounded before it is taken: the file, once more if it has metadata, up to 16 bytes a
//! pixel, and 64 MiB besides. A profile above 4 MiB is refused before it is copied or inflated.

mod alpha;
mod decode;
mod encode;
mod fit;
mod format;
mod jpeg;
mod jpeg_structure;
mod picture;
mod profile;
mod raw;
mod tiff_inks;
mod webp_container;

use serde::{Deserialize, Serialize};
use tasklease_worker::{Context, Task, TaskError, TaskResult};

pub use decode::PixelLimit;
pub use fit::{Fit, Size};
pub use format::OutputFormat;

use crate::failure::{Failure, Kind};
use crate::paths::input_and_output;
use tasklease_files::{FilePath, Files};

/// Longest side of the new image in pixels.
const MAX_SIDE: u32 = 16_384;

/// What the caller chose.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The image to read, relative to the root.
    #[serde(alias = "input_file_path")]
    pub input_file: Option<String>,
    /// Where the new image goes, relative to the root.
    #[serde(alias = "output_file_path")]
    pub output_file: Option<String>,
    /// Pixels, 1 to 16,384.
    pub width: u32,
    /// Pixels, 1 to 16,384.
    pub height: u32,
    /// JPEG, PNG, WebP, GIF, TIFF or BMP, in any case; `jpg` and `tif` too.
    pub format: String,
    /// 1 to 100; of effect for JPEG and WebP.
    pub quality: u8,
    /// `exact`, `contain` or `cover`.
    pub fit: String,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            input_file: None,
            output_file: None,
            width: 800,
            height: 600,
            format: "JPEG".to_owned(),
            quality: 85,
            fit: "exact".to_owned(),
        }
    }
}

/// What the task returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The image that was read.
    pub input_file: String,
    /// The image that was written.
    pub output_file: String,
    /// Width and height as a viewer shows the input, its EXIF orientation applied.
    pub original_size: [u32; 2],
    /// Width and height of the new image.
    pub new_size: [u32; 2],
    pub format: OutputFormat,
    /// Bytes of the new file.
    pub file_size_bytes: usize,
}

/// A checked request.
#[derive(Debug)]
struct Request {
    input: FilePath,
    output: FilePath,
    bounds: Size,
    format: OutputFormat,
    quality: u8,
    fit: Fit,
}

impl Request {
    fn check(params: &Params) -> TaskResult<Request> {
        let (input, output) = input_and_output(params.input_file.as_deref(), params.output_file.as_deref())?;
        let format: OutputFormat = params.format.parse()?;
        let max_side = MAX_SIDE.min(format.max_side());
        for (field, side) in [("width", params.width), ("height", params.height)] {
            if !(1..=max_side).contains(&side) {
                return Err(Failure::new(
                    Kind::InvalidParameter,
                    format!("field `{field}`: {side} is not between 1 and {max_side} pixels"),
                )
                .into());
            }
        }
        if !(1..=100).contains(&params.quality) {
            return Err(Failure::new(
                Kind::InvalidParameter,
                format!("field `quality`: {} is not between 1 and 100", params.quality),
            )
            .into());
        }
        Ok(Request {
            input,
            output,
            bounds: Size {
                width: params.width,
                height: params.height,
            },
            format,
            quality: params.quality,
            fit: params.fit.parse()?,
        })
    }
}

/// Loads, resizes, converts and saves one image.
///
/// # Errors
/// Bad parameters, a file that is no image within the limits, or the run was told to stop; then
/// nothing is written.
pub async fn process_image(
    files: &Files,
    limit: PixelLimit,
    params: &Params,
    ctx: &Context,
) -> TaskResult<Output> {
    let request = Request::check(params)?;
    let Request {
        bounds,
        fit,
        format,
        quality,
        ..
    } = request;
    ctx.check_cancelled()?;
    ctx.update_progress(10.0, "Loading the image");
    let bytes = ctx.unless_stopped(files.read(&request.input)).await??;
    let name = request.input.clone();
    let (picture, plan) = ctx
        .interruptible(move |stop| {
            let loaded = decode::open(&name, &bytes, limit)?;
            // The new size follows from the header, so an absurd one is refused before decoding.
            let plan = fit.plan(loaded.shown_size(), bounds);
            limit.check_output(plan.target)?;
            stop.check()?;
            Ok((loaded.decode()?, plan))
        })
        .await?;
    let original = picture.size();

    ctx.check_cancelled()?;
    ctx.update_progress(50.0, "Resizing");
    let resized = ctx.interruptible(move |_| Ok(picture.resized(plan)?)).await?;

    ctx.check_cancelled()?;
    ctx.update_progress(75.0, "Encoding");
    let encoded = ctx
        .interruptible(move |_| Ok(encode::encode(resized, format, quality)?))
        .await?;

    ctx.check_cancelled()?;
    ctx.update_progress(90.0, "Saving");
    let file_size_bytes = encoded.len();
    let staged = files.stage(&request.output, ctx.into(), move |out| out.write_all(&encoded));
    let staged = ctx.unless_stopped(staged).await??;
    // The last moment at which a cancel leaves no trace; the rename below is the point of no return.
    ctx.check_cancelled()?;
    staged.commit().await?;
    Ok(Output {
        input_file: request.input.as_str().to_owned(),
        output_file: request.output.as_str().to_owned(),
        original_size: original.into(),
        new_size: plan.target.into(),
        format,
        file_size_bytes,
    })
}

/// The task type `image_process`.
pub struct ImageProcess {
    files: Files,
    limit: PixelLimit,
}

impl ImageProcess {
    /// Works on the given files and on images up to the given size.
    pub fn new(files: Files, limit: PixelLimit) -> ImageProcess {
        ImageProcess { files, limit }
    }
}

impl Task for ImageProcess {
    const TYPE: &'static str = "image_process";
    type Params = Params;
    type Output = Output;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Output> {
        process_image(&self.files, self.limit, &params, ctx).await
    }
}
