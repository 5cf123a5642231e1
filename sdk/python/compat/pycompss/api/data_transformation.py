"""@data_transformation and @dto: refuse, naming the feature; they are not there yet."""

from shoal._decorators import not_supported

data_transformation = not_supported("data_transformation", "transformations of parameters")
dto = not_supported("dto", "transformations of parameters")
dt = DT = DataTransformation = data_transformation
DTObject = dto

OBJECT_TO_FILE = 0
FILE_TO_OBJECT = 1
FILE_TO_COLLECTION = 2
COLLECTION_TO_OBJECT = 3
COLLECTION_TO_FILE = 4
OBJECT_TO_DIRECTORY = 5
DIRECTORY_TO_OBJECT = 6
COLLECTION_TO_DIRECTORY = 7

__all__ = [
    "COLLECTION_TO_DIRECTORY", "COLLECTION_TO_FILE", "COLLECTION_TO_OBJECT", "DIRECTORY_TO_OBJECT", "DT",
    "DTObject", "DataTransformation", "FILE_TO_COLLECTION", "FILE_TO_OBJECT", "OBJECT_TO_DIRECTORY", "OBJECT_TO_FILE",
    "data_transformation", "dt", "dto",
]  # fmt: skip
