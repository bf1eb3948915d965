//! Transparency for formats that have none, or only on and off.

use image::{DynamicImage, Rgb, RgbImage, Rgba};

const WHITE: u8 = 255;

/// Lays the image on white.
pub(super) fn flattened(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb8(opaque) => opaque,
        image => {
            let image = image.into_rgba8();
            RgbImage::from_fn(image.width(), image.height(), |x, y| {
                on_white(*image.get_pixel(x, y))
            })
        }
    }
}

/// Makes every pixel either wholly transparent or wholly opaque, the latter laid on white.
pub(super) fn on_or_off(image: &mut DynamicImage) {
    let DynamicImage::ImageRgba8(image) = image else {
        return;
    };
    for pixel in image.pixels_mut() {
        if pixel[3] < 128 {
            *pixel = Rgba([0, 0, 0, 0]);
        } else {
            let Rgb([red, green, blue]) = on_white(*pixel);
            *pixel = Rgba([red, green, blue, 255]);
        }
    }
}

fn on_white(Rgba([red, green, blue, alpha]): Rgba<u8>) -> Rgb<u8> {
    let blend = |channel: u8| {
        let sum = u32::from(channel) * u32::from(alpha) + u32::from(WHITE) * u32::from(255 - alpha);
        // Rounded; at most 255 because both weights add up to 255.
        u8::try_from((sum + 127) / 255).unwrap_or(WHITE)
    };
    Rgb([blend(red), blend(green), blend(blue)])
}
