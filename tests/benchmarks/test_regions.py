import json

import numpy as np
from PIL import Image
from regions import gains, read, recall, with_as_many_boxes

from usl_backend import encoders


def test_read__boxes_of_a_tiny_set_are_classified_from_those_of_others(tmp_path):
    rng = np.random.default_rng(0)
    colors = {1: (220, 30, 30), 2: (30, 200, 40), 7: (40, 60, 220)}
    images, annotations = [], []
    for number in range(12):
        canvas = rng.integers(100, 156, (96, 96, 3), dtype=np.uint8)
        for place, category in enumerate(list(colors)[: 1 + number % 3]):
            canvas[8:40, 4 + 30 * place : 30 + 30 * place] = colors[category]
            annotations.append(
                {"image_id": number, "category_id": category, "bbox": [4 + 30 * place, 8, 26, 32]}
            )
        annotations.append({"image_id": number, "category_id": 1, "bbox": [0, 0, 3, 30]})  # too narrow
        Image.fromarray(canvas).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
    coco = tmp_path / "annotations.json"
    coco.write_text(json.dumps({"images": images, "annotations": annotations}))
    boxes = read(tmp_path, coco, encoders.load("efficientnet-lite0", image_size=64))
    assert (len(boxes.pictures), len(boxes.crops)) == (12, 24)
    assert boxes.classes.max() == 2
    assert recall(boxes, np.array([2])) == 100.0  # one picture with all three colors
    assert 30 < recall(boxes, np.array([0])) < 34  # only red
    order = np.array([0, 1, 2, 3])  # 1, 2, 3 and 1 boxes
    assert with_as_many_boxes(boxes, order, 3).tolist() == [0, 1]
    assert with_as_many_boxes(boxes, order, 7).tolist() == [0, 1, 2, 3]
    by_picture, by_box = gains(boxes, 3, range(2))
    assert len(by_picture) == len(by_box) == 2
    assert np.isfinite([*by_picture, *by_box]).all()
