use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder as _, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use tasklease_documents::image_process::{Output, Params, PixelLimit, process_image};
use tasklease_worker::TaskResult;

use crate::runs::{Run, marks, undisturbed};
use crate::workspace::Workspace;

const RED: Rgb<u8> = Rgb([230, 20, 20]);
const GREEN: Rgb<u8> = Rgb([20, 200, 20]);
const BLUE: Rgb<u8> = Rgb([20, 20, 230]);
const YELLOW: Rgb<u8> = Rgb([230, 230, 20]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

pub(crate) const FORMATS: [(&str, ImageFormat); 6] = [
    ("JPEG", ImageFormat::Jpeg),
    ("PNG", ImageFormat::Png),
    ("WebP", ImageFormat::WebP),
    ("GIF", ImageFormat::Gif),
    ("TIFF", ImageFormat::Tiff),
    ("BMP", ImageFormat::Bmp),
];

/// Four quarters: red and green above, blue and yellow below.
pub(crate) fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => RED,
        (false, true) => GREEN,
        (true, false) => BLUE,
        (false, false) => YELLOW,
    })
}

pub(crate) fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// The colours in the middle of the four quarters.
fn corners(image: &DynamicImage) -> [Rgb<u8>; 4] {
    let image = image.to_rgb8();
    let (left, right) = (image.width() / 4, image.width() * 3 / 4);
    let (top, bottom) = (image.height() / 4, image.height() * 3 / 4);
    [(left, top), (right, top), (left, bottom), (right, bottom)].map(|(x, y)| *image.get_pixel(x, y))
}

fn assert_close(found: Rgb<u8>, expected: Rgb<u8>, what: &str) {
    let close = (0..3).all(|channel| found[channel].abs_diff(expected[channel]) <= 12);
    assert!(close, "{what}: {found:?} instead of {expected:?}");
}

pub(crate) async fn run(workspace: &Workspace, run: &Run, params: Value) -> TaskResult<Output> {
    let mut all = json!({ "input_file": "in", "output_file": "out" });
    all.as_object_mut()
        .unwrap()
        .extend(params.as_object().unwrap().clone());
    let params: Params = serde_json::from_value(all).unwrap();
    process_image(&workspace.files, PixelLimit(1_000_000), &params, &run.context()).await
}

async fn converted(workspace: &Workspace, params: Value) -> (Output, DynamicImage) {
    let output = run(workspace, &undisturbed(), params).await.unwrap();
    let image = image::load_from_memory(&workspace.read("out")).unwrap();
    (output, image)
}

#[tokio::test]
async fn every_format_is_read_and_written() {
    let picture = quarters(120, 80);
    for (name, read) in FORMATS {
        for (format, written) in FORMATS {
            let workspace = Workspace::new();
            workspace.write("in", encoded(&picture, read));
            let (output, image) =
                converted(&workspace, json!({ "format": format, "width": 60, "height": 50 })).await;
            let bytes = workspace.read("out");
            assert_eq!(image::guess_format(&bytes).unwrap(), written);
            assert_eq!((image.width(), image.height()), (60, 50));
            for (found, expected) in corners(&image).into_iter().zip([RED, GREEN, BLUE, YELLOW]) {
                assert_close(found, expected, &format!("{name} to {format}"));
            }
            assert_eq!(
                serde_json::to_value(&output).unwrap(),
                json!({
                    "input_file": "in",
                    "output_file": "out",
                    "original_size": [120, 80],
                    "new_size": [60, 50],
                    "format": format,
                    "file_size_bytes": bytes.len(),
                })
            );
        }
    }
}

#[tokio::test]
async fn without_parameters_an_image_becomes_a_jpeg_of_800_by_600() {
    let workspace = Workspace::new();
    workspace.write("in", encoded(&quarters(50, 50), ImageFormat::Png));
    let undisturbed = undisturbed();
    let output = run(
        &workspace,
        &undisturbed,
        json!({ "output_file": "new/folder/out.jpg" }),
    )
    .await
    .unwrap();
    assert_eq!(marks(&undisturbed), [10.0, 50.0, 75.0, 90.0]);
    assert_eq!(output.new_size, [800, 600]);
    let bytes = workspace.read("new/folder/out.jpg");
    assert_eq!(image::guess_format(&bytes).unwrap(), ImageFormat::Jpeg);
    assert_eq!(workspace.all_files(), ["in", "new/folder/out.jpg"]);
}

#[tokio::test]
async fn format_names_are_accepted_in_any_case() {
    for (name, shown) in [
        ("jpg", "JPEG"),
        ("Jpeg", "JPEG"),
        ("png", "PNG"),
        ("WEBP", "WebP"),
        ("tif", "TIFF"),
    ] {
        let workspace = Workspace::new();
        workspace.write("in", encoded(&quarters(8, 8), ImageFormat::Png));
        let (output, _) = converted(&workspace, json!({ "format": name, "width": 4, "height": 4 })).await;
        assert_eq!(serde_json::to_value(output.format).unwrap(), shown);
    }
}

#[tokio::test]
async fn quality_changes_the_size_of_jpeg_and_webp() {
    for format in ["JPEG", "WebP"] {
        let workspace = Workspace::new();
        let noise = RgbImage::from_fn(200, 200, |x, y| {
            Rgb([(x * y % 251) as u8, (x * 7) as u8, (y * 13) as u8])
        });
        workspace.write("in", encoded(&noise, ImageFormat::Png));
        let (low, _) = converted(&workspace, json!({ "format": format, "quality": 20 })).await;
        let (high, _) = converted(&workspace, json!({ "format": format, "quality": 95 })).await;
        assert!(
            low.file_size_bytes * 2 < high.file_size_bytes,
            "{format}: {low:?} {high:?}"
        );
    }
}

#[tokio::test]
async fn contain_keeps_the_proportions_and_cover_cuts_what_stands_out() {
    let workspace = Workspace::new();
    // Blue margins left and right of a red square.
    let wide = RgbImage::from_fn(200, 100, |x, _| if (50..150).contains(&x) { RED } else { BLUE });
    workspace.write("in", encoded(&wide, ImageFormat::Png));
    let bounds = |fit: &str| json!({ "format": "PNG", "width": 60, "height": 60, "fit": fit });

    let (output, _) = converted(&workspace, bounds("contain")).await;
    assert_eq!(output.new_size, [60, 30]);

    let (output, image) = converted(&workspace, bounds("cover")).await;
    assert_eq!(output.new_size, [60, 60]);
    for x in [3, 30, 56] {
        assert_close(*image.to_rgb8().get_pixel(x, 30), RED, "cover");
    }

    let (output, image) = converted(&workspace, bounds("exact")).await;
    assert_eq!(output.new_size, [60, 60]);
    assert_close(*image.to_rgb8().get_pixel(3, 30), BLUE, "exact");
    assert_close(*image.to_rgb8().get_pixel(30, 30), RED, "exact");
}

/// The smallest EXIF block that holds an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0".to_vec();
    block.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    block.extend([0; 4]);
    block
}

#[tokio::test]
async fn each_exif_orientation_is_applied() {
    let picture = quarters(64, 32);
    for (orientation, expected) in [
        (1, [RED, GREEN, BLUE, YELLOW]),
        (2, [GREEN, RED, YELLOW, BLUE]),
        (3, [YELLOW, BLUE, GREEN, RED]),
        (4, [BLUE, YELLOW, RED, GREEN]),
        (5, [RED, BLUE, GREEN, YELLOW]),
        (6, [BLUE, RED, YELLOW, GREEN]),
        (7, [YELLOW, GREEN, BLUE, RED]),
        (8, [GREEN, YELLOW, RED, BLUE]),
    ] {
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.encode_image(&picture).unwrap();
        let workspace = Workspace::new();
        workspace.write("in", jpeg);
        let (output, image) = converted(
            &workspace,
            json!({ "format": "PNG", "width": 64, "height": 64, "fit": "contain" }),
        )
        .await;
        let shown = if orientation < 5 { [64, 32] } else { [32, 64] };
        assert_eq!(
            (output.original_size, output.new_size),
            (shown, shown),
            "orientation {orientation}"
        );
        for (found, expected) in corners(&image).into_iter().zip(expected) {
            assert_close(found, expected, &format!("orientation {orientation}"));
        }
    }
}

#[tokio::test]
async fn transparency_lies_on_white_where_the_format_has_none() {
    let workspace = Workspace::new();
    // Transparent, half transparent and opaque red.
    let stripes = RgbaImage::from_fn(90, 30, |x, _| match x / 30 {
        0 => Rgba([230, 20, 20, 0]),
        1 => Rgba([230, 20, 20, 128]),
        _ => Rgba([230, 20, 20, 255]),
    });
    let mut png = Cursor::new(Vec::new());
    stripes.write_to(&mut png, ImageFormat::Png).unwrap();
    workspace.write("in", png.into_inner());
    let size = |format: &str| json!({ "format": format, "width": 45, "height": 15, "quality": 100 });
    for format in ["JPEG", "BMP"] {
        let (_, image) = converted(&workspace, size(format)).await;
        assert!(!image.color().has_alpha());
        let image = image.to_rgb8();
        assert_close(*image.get_pixel(7, 7), WHITE, format);
        assert_close(*image.get_pixel(22, 7), Rgb([242, 137, 137]), format);
        assert_close(*image.get_pixel(37, 7), RED, format);
    }
    for format in ["PNG", "WebP", "TIFF", "GIF"] {
        let (_, image) = converted(&workspace, size(format)).await;
        let image = image.to_rgba8();
        assert_eq!(image.get_pixel(7, 7)[3], 0, "{format}");
        assert_eq!(image.get_pixel(37, 7)[3], 255, "{format}");
    }
}

#[tokio::test]
async fn sixteen_bit_grey_and_palette_images_are_read() {
    let workspace = Workspace::new();
    let deep = image::ImageBuffer::<Rgba<u16>, _>::from_pixel(20, 20, Rgba([60_000, 5_000, 5_000, 65_535]));
    let mut png = Cursor::new(Vec::new());
    DynamicImage::ImageRgba16(deep)
        .write_to(&mut png, ImageFormat::Png)
        .unwrap();
    workspace.write("in", png.into_inner());
    let (_, image) = converted(&workspace, json!({ "width": 10, "height": 10 })).await;
    assert_close(
        *image.to_rgb8().get_pixel(5, 5),
        Rgb([233, 19, 19]),
        "sixteen bits",
    );

    let grey = image::GrayImage::from_pixel(20, 20, image::Luma([90]));
    let mut jpeg = Cursor::new(Vec::new());
    grey.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    workspace.write("in", jpeg.into_inner());
    let (_, image) = converted(&workspace, json!({ "format": "gif", "width": 10, "height": 10 })).await;
    assert_close(*image.to_rgb8().get_pixel(5, 5), Rgb([90, 90, 90]), "grey");
}

#[tokio::test]
async fn a_picture_of_one_line_is_read_in_every_format_that_holds_it() {
    for (name, format) in FORMATS {
        if format == ImageFormat::WebP {
            continue;
        }
        for (width, height, expected) in [(65_535, 1, [640, 1]), (1, 65_535, [1, 480])] {
            let workspace = Workspace::new();
            workspace.write("in", encoded(&RgbImage::from_pixel(width, height, RED), format));
            let params = json!({ "format": "PNG", "width": 640, "height": 480, "fit": "contain" });
            let (output, image) = converted(&workspace, params).await;
            assert_eq!(output.new_size, expected, "{name}");
            assert_close(*image.to_rgb8().get_pixel(0, 0), RED, name);
        }
    }
}

#[tokio::test]
async fn of_an_animation_the_first_frame_is_taken() {
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for colour in [RED, BLUE, GREEN] {
        let frame = DynamicImage::ImageRgb8(RgbImage::from_pixel(20, 10, colour)).into_rgba8();
        encoder.encode_frame(image::Frame::new(frame)).unwrap();
    }
    drop(encoder);
    let workspace = Workspace::new();
    workspace.write("in", gif);
    let (_, image) = converted(&workspace, json!({ "format": "PNG", "width": 20, "height": 10 })).await;
    assert_close(*image.to_rgb8().get_pixel(10, 5), RED, "first frame");
}

pub(crate) fn position(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
        .unwrap()
}

#[tokio::test]
async fn an_image_task_cancelled_at_any_mark_or_check_leaves_no_file() {
    let workspace = Workspace::new();
    workspace.write("in", encoded(&quarters(8, 8), ImageFormat::Png));
    for mark in [10.0, 50.0, 75.0, 90.0] {
        let failure = run(&workspace, &undisturbed().cancel_at_progress(mark), json!({}))
            .await
            .unwrap_err();
        assert!(failure.is_cancelled(), "at mark {mark}");
        assert_eq!(workspace.all_files(), ["in"], "at mark {mark}");
    }
    let mut check = 0;
    while let Err(failure) = run(&workspace, &undisturbed().cancel_at_check(check), json!({})).await {
        assert!(failure.is_cancelled(), "at check {check}");
        assert_eq!(workspace.all_files(), ["in"], "at check {check}");
        check += 1;
    }
    // The last look comes between the finished temporary file and its rename.
    assert_eq!(check, 5);
}
