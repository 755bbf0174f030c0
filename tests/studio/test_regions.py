import pytest

from usl_backend.studio.label_config import parse
from usl_backend.studio.regions import draws_regions

IMAGE = '<Image name="i" value="$image"/>'
CHOICES = '<Choices name="c" toName="i"{}><Choice value="a"/></Choices>'
SHAPES = ["Rectangle", "Polygon", "Brush", "KeyPoint", "Ellipse", "Bitmask"]


@pytest.mark.parametrize("tag", [*(f"{shape}Labels" for shape in SHAPES), *SHAPES])
def test_draws_regions__every_shape(tag):
    label = '<Label value="cat"/>' if tag.endswith("Labels") else ""
    drawn = f'<{tag} name="r" toName="i">{label}</{tag}>'
    assert draws_regions(parse(f"<View>{IMAGE}{drawn}</View>"))
    each = CHOICES.format(' perRegion="true"')
    assert draws_regions(parse(f"<View>{IMAGE}{drawn}{each}</View>"))
    assert not draws_regions(parse(f"<View>{IMAGE}{drawn}{CHOICES.format('')}</View>"))


def test_draws_regions__other_tags_do_not():
    assert not draws_regions(parse(f"<View>{IMAGE}{CHOICES.format('')}</View>"))
    assert not draws_regions(parse(f'<View>{IMAGE}<TextArea name="t" toName="i"/></View>'))
