"""Table of the data sets that are read from their original files; most of it is checksums."""

from __future__ import annotations

from vaex.data.sources import formats
from vaex.data.sources.original_files import OriginalFiles

ALPHABETS = (
    "Alphabet of the Magi", "Angelic", "Anglo-Saxon Futhorc", "Arcadian", "Armenian", "Asomtavruli (Georgian)",
    "Atemayar Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Balinese", "Bengali",
    "Blackfoot (Canadian Aboriginal Syllabics)", "Braille", "Burmese (Myanmar)", "Cyrillic", "Early Aramaic",
    "Futurama", "Ge ez", "Glagolitic", "Grantha", "Greek", "Gujarati", "Gurmukhi", "Hebrew",
    "Inuktitut (Canadian Aboriginal Syllabics)", "Japanese (hiragana)", "Japanese (katakana)", "Kannada", "Keble",
    "Korean", "Latin", "Malay (Jawi - Arabic)", "Malayalam", "Manipuri", "Mkhedruli (Georgian)", "Mongolian", "N Ko",
    "Ojibwe (Canadian Aboriginal Syllabics)", "Old Church Slavonic (Cyrillic)", "Oriya", "Sanskrit", "Sylheti",
    "Syriac (Estrangelo)", "Syriac (Serto)", "Tagalog", "Tengwar", "Tibetan", "Tifinagh", "ULOG",
)  # fmt: skip

ORIGINALS = {
    "mnist": OriginalFiles(
        "mnist",
        "3.0.1",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        {
            "train": "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
            "test": "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
        },
        tuple("0123456789"),
    ),
    "fashion_mnist": OriginalFiles(
        "fashion_mnist",
        "3.0.1",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        {
            "train": "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157",
            "test": "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4",
        },
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "binarized_mnist": OriginalFiles(
        "binarized_mnist",
        "1.0.0",
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        {
            "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        },
        {
            "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
            "validation": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
            "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
        },
        (),
        held_out=0,
        read=formats.read_amat,
        packed="binarized_mnist.npz",
        protocol="static_mnist_larochelle",
    ),
    "cifar10": OriginalFiles(
        "cifar10",
        "3.0.2",
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        {
            "train": "5dd7e06a14cb22eb9f671a540d1b7c25 5ea93a67294ea407fff1d09f752e9692 942cd6a4bcdd0dd3c604fbe906cb4421 "
            "ae636b3ba5c66a11e91e8cb52e771fcb 53f37980c15c3d472c316c40844f3f0d",
            "test": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        held_out=5_000,
        read=formats.read_cifar,
        digest=formats.digest_cifar,
        ids=True,
    ),
    "omniglot": OriginalFiles(
        "omniglot",
        "",
        "https://github.com/brendenlake/omniglot, its images as bits",
        {},
        {
            "train": "f707c751096873b337c9cd0647a1a49178f25d2197d7a242fcb1714936a61810",
            "test": "f8360b4f7e829bb2f16be6f1ffb6f6efa4ea0d8820d460e0105d49f0e1621ab7",
        },
        ALPHABETS,
        held_out=0,
        read=formats.read_omniglot,
        packed="omniglot_105_packed.npz",
        protocol="omniglot_28x28_area_mean",
    ),
    "freyfaces": OriginalFiles(
        "freyfaces",
        "",
        "https://github.com/jmtomczak/vae_vampprior, its array as images",
        {},
        {"train": "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"},
        (),
        held_out=0,
        read=formats.read_freyfaces,
        packed="freyfaces.npz",
    ),
}
