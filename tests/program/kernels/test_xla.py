"""Threads, cache folder and shared memory of XLA."""

import logging
import subprocess
import sys

import numpy as np

from trivium.program.kernels import xla
from trivium.program.params import Layout


def test_a_second_count_of_threads_is_refused_with_a_warning(caplog):
    now = 1 if xla.configure(1) else xla.threads_in_use()
    assert xla.configure(now)
    with caplog.at_level(logging.WARNING):
        assert not xla.configure(now + 1)
    assert f"{now + 1} were asked for" in caplog.text


def test_a_fresh_process_is_configured_before_the_backend_exists(tmp_path):
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom trivium.program.kernels import xla\n"
        "assert 'jax' not in sys.modules\n"
        "assert xla.configure(1, cache=Path(sys.argv[1]))\nimport jax\n"
        "assert os.environ['NPROC'] == '1' and jax.devices()[0].platform == 'cpu'\n"
        "jax.jit(lambda x: x @ x)(jax.numpy.ones((64, 64))).block_until_ready()\n"
        "assert xla.configure(1) and not xla.configure(2)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], timeout=60, check=True)
    assert any(tmp_path.iterdir())


def test_aliases_share_memory_and_are_held_in_bounded_number():
    xla.configure(xla.threads_in_use() or 1)
    layout = Layout.of({"w": (3, 2), "b": (2,)})
    aliases, flat = xla.Aliases(layout), layout.empty()
    w, b = aliases.of(flat)
    assert aliases.of(flat)[0] is w
    assert w.unsafe_buffer_pointer() == flat.ctypes.data
    flat[:] = 1
    assert float((w + 0).sum()) == 6
    assert b.shape == (2,)
    for _ in range(3 * xla.KEPT):
        aliases.of(layout.empty())
    assert len(aliases._held) == xla.KEPT


def test_aligned_arrays_begin_on_a_boundary():
    for rows in (1, 7, 33):
        array = xla.aligned((rows, 5), "float32")
        assert array.shape == (rows, 5)
        assert array.ctypes.data % 64 == 0
        assert not np.any(array)


def test_cache_folder_follows_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = xla.cache_folder()
    assert folder.parent == tmp_path / "trivium" / "xla"
    assert folder == xla.cache_folder()
