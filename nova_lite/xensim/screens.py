"""What a guest's screen shows: its text, and the pixels of that text."""

from functools import lru_cache

from nova_lite.xensim.db import Database, Row
from nova_lite.xensim.vm_rules import is_hvm

WIDTH, HEIGHT = 640, 400
CELL_WIDTH, LINE_HEIGHT, SCALE = 8, 12, 2
COLUMNS, LINES = WIDTH // CELL_WIDTH, HEIGHT // LINE_HEIGHT
# Glyphs of three by five dots, a digit a row, the left dot worth 4. Letters are capitals; what has no glyph is a box.
GLYPHS = {" ": "00000"} | {
    entry[0]: entry[2:]
    for entry in (
        "A=25755 B=65656 C=34443 D=65556 E=74647 F=74644 G=34553 H=55755 I=72227 J=11152 K=55655 L=44447 M=57755 "
        "N=57775 O=25552 P=65644 Q=25573 R=65655 S=34216 T=72222 U=55557 V=55552 W=55775 X=55255 Y=55222 Z=71247 "
        "0=75557 1=26227 2=61247 3=61216 4=55711 5=74616 6=34757 7=71222 8=75757 9=75716 .=00002 ,=00024 :=02020 "
        ";=02024 -=00700 /=11244 (=12221 )=42224 ==07070 _=00007 '=22000 [=64446 ]=31113 +=02720 *=05250 %=51245 "
        "#=57575 !=22202 ?=61202 @=75747 <=12421 >=42124"
    ).split()
}
BOX = "75557"


def boot_text(db: Database, vm: Row) -> list[str]:
    """Return the lines on the screen of a running VM: how far its guest has come."""
    metrics = db.find("VM_guest_metrics", vm["guest_metrics"])
    lines = []
    if is_hvm(vm):
        lines += [f"{vm['name_label']}: SeaBIOS", f"{vm['memory_dynamic_max'] >> 20} MiB of memory", ""]
        if not vm["VBDs"]:
            return [*lines, "No bootable device."]
        lines.append("Booting from hard disk...")
    if not metrics or not metrics["live"]:
        return [*lines, "Loading the kernel ..."]
    system = metrics["os_version"]
    lines += [f"Linux version {system.get('uname', '')}", f"{system.get('name', '')}", ""]
    return [*lines, f"{vm['name_label'].lower().replace(' ', '-')} login: _"]


@lru_cache(maxsize=32)
def _rows(bits: int, bytes_per_pixel: int) -> bytes:
    """Return the pixels of one row of a glyph: three dots and the gap behind them."""
    on, off = b"\xff" * bytes_per_pixel * SCALE, bytes(bytes_per_pixel * SCALE)
    return b"".join(on if bits & mask else off for mask in (4, 2, 1)) + off


def render(lines: list[str], bytes_per_pixel: int) -> bytes:
    """Return the whole framebuffer, white on black, in any true-colour format of this many bytes a pixel."""
    empty = bytes(WIDTH * bytes_per_pixel)
    scanlines: list[bytes] = []
    for line in lines[-LINES:]:
        glyphs = [GLYPHS.get(character, BOX) for character in line[:COLUMNS].upper()]
        for row in range(5):
            pixels = b"".join(_rows(int(glyph[row]), bytes_per_pixel) for glyph in glyphs)
            scanlines += [pixels.ljust(len(empty), b"\0")] * SCALE
        scanlines += [empty] * (LINE_HEIGHT - 5 * SCALE)
    return b"".join(scanlines + [empty] * (HEIGHT - len(scanlines)))
