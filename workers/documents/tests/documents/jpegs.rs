//! JPEG files of every kind, beside what libjpeg makes of them.

use std::panic::catch_unwind;

use serde_json::json;

use crate::images::run;
use crate::jpeg_writer::{Jpeg, Process, Sampling, Scan};
use crate::runs::undisturbed;
use crate::workspace::Workspace;

/// What libjpeg shows, three samples a pixel; `None` if it refuses the file.
fn libjpeg(bytes: &[u8]) -> Option<Vec<u8>> {
    // It reports errors by unwinding.
    let decoded = catch_unwind(|| {
        let mut image = mozjpeg::Decompress::new_mem(bytes).ok()?.rgb().ok()?;
        let pixels: Vec<[u8; 3]> = image.read_scanlines().ok()?;
        image.finish().ok()?;
        Some(pixels.concat())
    });
    decoded.ok().flatten()
}

/// What libjpeg reads of four channels, as they are in the file.
fn libjpeg_inks(bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut image = mozjpeg::Decompress::new_mem(bytes)
        .unwrap()
        .to_colorspace(mozjpeg::ColorSpace::JCS_CMYK)
        .unwrap();
    let pixels = image.read_scanlines().unwrap();
    image.finish().unwrap();
    pixels
}

/// The task's own picture of the same size, or why it refuses.
async fn ours(bytes: &[u8], width: usize, height: usize) -> Result<Vec<u8>, String> {
    let workspace = Workspace::new();
    workspace.write("in", bytes);
    let params = json!({ "format": "BMP", "width": width, "height": height });
    match run(&workspace, &undisturbed(), params).await {
        Ok(_) => Ok(image::load_from_memory(&workspace.read("out"))
            .unwrap()
            .into_rgb8()
            .into_raw()),
        Err(failure) => Err(failure.kind().to_owned()),
    }
}

/// Slopes with some detail: decoders may differ in how they smooth, not in what they show.
fn sample(component: usize, x: f64, y: f64) -> f64 {
    match component {
        0 => 60.0 + 120.0 * x + 40.0 * (9.0 * y).sin() + if (x * 6.0).fract() < 0.5 { 12.0 } else { 0.0 },
        1 => 90.0 + 70.0 * y + 20.0 * (7.0 * x).cos(),
        2 => 150.0 - 60.0 * x + 25.0 * (8.0 * y).cos(),
        _ => 120.0 + 60.0 * x * y,
    }
}

fn assert_same(ours: &[u8], theirs: &[u8], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
    let most = ours.iter().zip(theirs).map(difference).max().unwrap();
    let sum: u64 = ours.iter().zip(theirs).map(difference).sum();
    assert!(
        most <= 8 && sum <= 2 * ours.len() as u64,
        "{what}: a channel differs by {most}, all by {sum} in {}",
        ours.len()
    );
}

fn sampled(factors: &[(usize, usize)]) -> Vec<Sampling> {
    factors
        .iter()
        .map(|&(across, down)| Sampling { across, down })
        .collect()
}

/// All samplings of three channels by 1, 2 and 4, the second and third alike, and some odd ones.
fn samplings() -> Vec<Vec<Sampling>> {
    let factors = [1, 2, 4];
    let pairs = || {
        factors
            .into_iter()
            .flat_map(|across| factors.map(|down| (across, down)))
    };
    let mut all: Vec<_> = pairs()
        .flat_map(|luma| pairs().map(move |chroma| sampled(&[luma, chroma, chroma])))
        .collect();
    all.push(sampled(&[(2, 2), (1, 1), (2, 1)]));
    all.push(sampled(&[(2, 1), (2, 2), (1, 2)]));
    all.push(sampled(&[(3, 1), (1, 1), (1, 1)]));
    all.push(sampled(&[(3, 2), (2, 1), (1, 1)]));
    all
}

/// One scan per group, with all coefficients.
fn sequential(groups: &[&[usize]]) -> Vec<Scan> {
    groups.iter().map(|group| scan(group, (0, 63), (0, 0))).collect()
}

/// The first coefficients by group, then the rest of each channel; with `bits` also bit by bit.
fn progressive(channels: usize, groups: &[&[usize]], bits: u8) -> Vec<Scan> {
    let mut scans: Vec<_> = groups
        .iter()
        .map(|group| scan(group, (0, 0), (0, bits)))
        .collect();
    for channel in (0..channels).rev() {
        scans.push(scan(&[channel], (1, 5), (0, bits)));
        scans.push(scan(&[channel], (6, 63), (0, bits)));
    }
    for bit in (0..bits).rev() {
        scans.extend(groups.iter().map(|group| scan(group, (0, 0), (bit + 1, bit))));
        scans.extend((0..channels).map(|channel| scan(&[channel], (1, 63), (bit + 1, bit))));
    }
    scans
}

fn scan(components: &[usize], band: (usize, usize), bits: (u8, u8)) -> Scan {
    Scan {
        components: components.to_vec(),
        band,
        bits,
    }
}

/// Whether every channel has the finest sampling of the file or a single sample of it: what
/// encoders write.
fn is_usual(samplings: &[Sampling]) -> bool {
    let across = samplings.iter().map(|it| it.across).max().unwrap();
    let down = samplings.iter().map(|it| it.down).max().unwrap();
    samplings
        .iter()
        .all(|it| [1, across].contains(&it.across) && [1, down].contains(&it.down))
}

#[tokio::test]
async fn a_jpeg_looks_as_libjpeg_shows_it_or_is_refused_as_unsupported() {
    let orders: [&[&[usize]]; 4] = [
        &[&[0, 1, 2]],
        &[&[0], &[1], &[2]],
        &[&[2], &[0, 1]],
        &[&[0], &[1, 2]],
    ];
    let (mut shown, mut refused) = (0, 0);
    for samplings in samplings() {
        for groups in orders {
            let kinds = [
                (Process::Baseline, sequential(groups)),
                (Process::Progressive, progressive(3, groups, 0)),
                (Process::Progressive, progressive(3, groups, 2)),
            ];
            for (process, scans) in kinds {
                for (width, height, restart) in [(67, 45, None), (17, 9, Some(3)), (1, 70, None)] {
                    let jpeg = Jpeg {
                        width,
                        height,
                        process,
                        samplings: samplings.clone(),
                        scans: scans.clone(),
                        restart,
                        extra: Vec::new(),
                    };
                    let bytes = jpeg.write(sample);
                    let what =
                        format!("{width} x {height}, {process:?}, {samplings:?}, {groups:?}, {restart:?}");
                    match (ours(&bytes, width, height).await, libjpeg(&bytes)) {
                        (Ok(ours), Some(theirs)) => {
                            assert_same(&ours, &theirs, &what);
                            shown += 1;
                        }
                        (Err(kind), Some(_)) if kind == "UNSUPPORTED_FORMAT" => {
                            assert!(!is_usual(&samplings), "refused: {what}");
                            refused += 1;
                        }
                        (Err(kind), None) if kind == "UNSUPPORTED_FORMAT" || kind == "INVALID_IMAGE" => {}
                        (ours, theirs) => panic!("{what}: {:?}, libjpeg {}", ours.err(), theirs.is_some()),
                    }
                }
            }
        }
    }
    assert!(shown > 4 * refused, "{shown} shown, {refused} refused");
}

#[tokio::test]
async fn a_grey_jpeg_looks_as_libjpeg_shows_it_whatever_its_sampling_says() {
    for (across, down) in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 3)] {
        for (process, scans) in [
            (Process::Baseline, sequential(&[&[0]])),
            (Process::Extended, sequential(&[&[0]])),
            (Process::Progressive, progressive(1, &[&[0]], 2)),
        ] {
            for (width, height) in [(1, 1), (67, 45), (8, 8), (9, 64)] {
                let jpeg = Jpeg {
                    width,
                    height,
                    process,
                    samplings: sampled(&[(across, down)]),
                    scans: scans.clone(),
                    restart: Some(5),
                    extra: Vec::new(),
                };
                let bytes = jpeg.write(sample);
                let what = format!("{width} x {height}, {process:?}, {across} x {down}");
                let ours = ours(&bytes, width, height).await.unwrap();
                assert_same(&ours, &libjpeg(&bytes).unwrap(), &what);
            }
        }
    }
}

/// The segment by which Adobe's programs tell how four channels are coded.
fn adobe(transform: u8) -> Vec<u8> {
    let mut segment = b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0".to_vec();
    segment.push(transform);
    segment
}

#[tokio::test]
async fn inks_are_inverted_in_the_files_of_adobe_alone() {
    for (extra, inverted) in [(adobe(0), true), (adobe(2), true), (Vec::new(), false)] {
        for (factors, groups) in [
            ([(1, 1); 4], &[&[0, 1, 2, 3][..]][..]),
            ([(2, 2), (1, 1), (1, 1), (2, 2)], &[&[0, 1, 2, 3][..]]),
            ([(2, 2), (1, 1), (1, 1), (2, 2)], &[&[0][..], &[1], &[2], &[3]]),
        ] {
            let jpeg = Jpeg {
                width: 67,
                height: 45,
                process: Process::Baseline,
                samplings: sampled(&factors),
                scans: sequential(groups),
                restart: None,
                extra: extra.clone(),
            };
            let bytes = jpeg.write(sample);
            let expected: Vec<u8> = libjpeg_inks(&bytes)
                .into_iter()
                .flat_map(|inks| {
                    let [c, m, y, k] = inks.map(|ink| u32::from(if inverted { ink } else { 255 - ink }));
                    [c, m, y].map(|light| (light * k / 255) as u8)
                })
                .collect();
            let ours = ours(&bytes, 67, 45).await.unwrap();
            assert_same(&ours, &expected, &format!("{factors:?}, inverted: {inverted}"));
        }
    }
}

#[tokio::test]
async fn a_jpeg_that_no_decoder_here_reads_is_unsupported_and_not_broken() {
    let jpeg = Jpeg {
        width: 16,
        height: 16,
        process: Process::Baseline,
        samplings: sampled(&[(1, 1); 3]),
        scans: sequential(&[&[0, 1, 2]]),
        restart: None,
        extra: Vec::new(),
    };
    let whole = jpeg.write(sample);
    let frame = whole.windows(2).position(|two| two == [0xFF, 0xC0]).unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[frame + at] = value;
        bytes
    };
    let many = Jpeg {
        scans: vec![scan(&[0, 1, 2], (0, 63), (0, 0)); 101],
        ..jpeg.clone()
    };
    for (name, bytes) in [
        ("lossless", with(1, 0xC3)),
        ("hierarchical", with(1, 0xC5)),
        ("arithmetic", with(1, 0xC9)),
        ("arithmetic and progressive", with(1, 0xCA)),
        ("twelve bits", with(4, 12)),
        ("a height of zero", with(6, 0)),
        ("two channels", with(9, 2)),
        ("fractional sampling", with(11, 0x32)),
        ("a hundred and one scans", many.write(sample)),
    ] {
        let mut bytes = bytes;
        if name == "fractional sampling" {
            bytes[frame + 14] = 0x21;
        }
        assert_eq!(
            ours(&bytes, 16, 16).await.unwrap_err(),
            "UNSUPPORTED_FORMAT",
            "{name}"
        );
    }
    for (name, bytes) in [
        ("a width of zero", with(8, 0)),
        ("a sampling of zero", with(11, 0x01)),
        ("a sampling of five", with(11, 0x15)),
        ("a channel that no scan names", with(10, 9)),
    ] {
        assert_eq!(ours(&bytes, 16, 16).await.unwrap_err(), "INVALID_IMAGE", "{name}");
    }
}

#[tokio::test]
async fn a_jpeg_with_any_byte_changed_or_cut_off_never_panics() {
    let jpeg = Jpeg {
        width: 17,
        height: 9,
        process: Process::Progressive,
        samplings: sampled(&[(2, 2), (1, 1), (1, 1)]),
        scans: progressive(3, &[&[0, 1, 2]], 1),
        restart: None,
        extra: adobe(1),
    };
    let whole = jpeg.write(sample);
    // Headers are where a wrong number does harm; the image data is all alike.
    let step = |at: usize| if at < 100 { 1 } else { 37 };
    // The first three bytes tell that it is a JPEG file at all.
    let mut at = 3;
    while at < whole.len() {
        for value in [0, 0xFF, whole[at] ^ 1, whole[at].wrapping_add(64)] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            // Either end is fine; what matters is that one comes.
            let _ = ours(&bytes, 17, 9).await;
        }
        let cut = ours(&whole[..at], 17, 9).await;
        assert_eq!(cut.unwrap_err(), "INVALID_IMAGE", "cut to {at} bytes");
        at += step(at);
    }
}
