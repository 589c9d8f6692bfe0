"""`irestore compare`: pictures beside each other, on a page for a browser or on a contact sheet."""

from pathlib import Path

import click

from irestore import images
from irestore.errors import UsageError, file_size, say

HOW = """Compare pictures of one view: before and after, or several results.

\b
irestore compare photo.jpg photo_x4.png -o page.html
irestore compare photo.jpg fast.png best.png --sheet sheet.png

The page is one file that needs no network. It has a slider between any two of up to 9 pictures, all of them side by
side, and zoom; press ? on it for its keys. Pictures may differ in size: all are shown at the size of the largest. More
than 8 megapixels are shown as JPEG of quality 95, and the page says so.

The sheet shows, at the pixels of the largest picture, the four places at which the others differ most from the first.
"""
FILE = click.Path(path_type=Path)


@click.command(help=HOW)
@click.argument("pictures", nargs=-1, metavar="BEFORE AFTER...", type=FILE)
@click.option("-o", "--output", metavar="PAGE.html", type=FILE, help="Write the page.")
@click.option("--sheet", metavar="FILE", type=FILE, help="Write the contact sheet: .png, .jpg, .webp, ...")
@click.option("--overwrite", is_flag=True, help="Replace the page or the sheet if it exists.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=images.MAX_PIXELS, show_default=True, metavar="N",
    help="Refuse to decode larger pictures.")  # fmt: skip
def compare(
    pictures: tuple[Path, ...], output: Path | None, sheet: Path | None, overwrite: bool, max_pixels: int
) -> None:
    """Check the names, read the pictures, write what was asked for."""
    from irestore.compare import check_page, read, save_page
    from irestore.images.sheet import contact_sheet

    targets = [target for target in (output, sheet) if target is not None]
    if not targets:
        raise UsageError("nothing to write; say -o page.html for a page, or --sheet sheet.png for a contact sheet")
    for target in targets:
        if target.exists() and (not overwrite or any(path.exists() and target.samefile(path) for path in pictures)):
            raise UsageError(f"{target}: exists already; give another name, or --overwrite if it is not an input")
    if output is not None:
        check_page(output)
    if sheet is not None:
        images.target_format(sheet, images.SaveOptions())
    shown = read(pictures, max_pixels)
    if sheet is not None:
        crops = contact_sheet([each.name for each in shown], [each.samples for each in shown])
        images.save(crops, sheet, images.SaveOptions(overwrite=overwrite))
    if output is not None:
        save_page(output, "compare", [(", ".join(each.name for each in shown), shown)], overwrite=overwrite)
    for target in targets:
        say(f"{target}: {file_size(target.stat().st_size)}")
