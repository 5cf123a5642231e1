"""@data_transformation and DTObject, with the kinds of transformation."""

from shoal import DTObject, data_transformation
from shoal.parameter import (
    COLLECTION_TO_DIRECTORY,
    COLLECTION_TO_FILE,
    COLLECTION_TO_OBJECT,
    DIRECTORY_TO_OBJECT,
    FILE_TO_COLLECTION,
    FILE_TO_OBJECT,
    OBJECT_TO_DIRECTORY,
    OBJECT_TO_FILE,
)

dt = DT = Dt = DataTransformation = Data_transformation = data_transformation
dto = DTO = DTObject

__all__ = [
    "COLLECTION_TO_DIRECTORY", "COLLECTION_TO_FILE", "COLLECTION_TO_OBJECT", "DIRECTORY_TO_OBJECT", "DT", "DTO",
    "DTObject", "DataTransformation", "Data_transformation", "Dt", "FILE_TO_COLLECTION", "FILE_TO_OBJECT",
    "OBJECT_TO_DIRECTORY", "OBJECT_TO_FILE", "data_transformation", "dt", "dto",
]  # fmt: skip
