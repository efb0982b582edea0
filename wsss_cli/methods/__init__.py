"""The formulas of the papers: pure functions on tensors or arrays, without files and options.

The networks of the papers are in ``wsss_cli/models``, their training losses in
``wsss_cli/training``, the tools in ``wsss_cli/tools``, under the same names.

===============  ===================================================  ==============================
file             paper                                                run by
===============  ===================================================  ==============================
``affinity``     Ahn & Kwak, CVPR 2018 (AffinityNet), sec. 3.2, 3.3   train-aff, random-walk
``cam``          Zhou et al., CVPR 2016 (CAM); Ahn & Kwak 2018,       make-cam
                 sec. 3.1
``crf``          Krähenbühl & Koltun, NIPS 2011 (dense CRF);          crf, make-aff-labels;
                 Ahn & Kwak 2018, sec. 3.2, and Ahn, Cho & Kwak       --crf of random-walk, predict
                 2019, sec. 4.2 (confident regions)
``eps``          Lee et al., CVPR 2021 (EPS) and PAMI 2023 (EPS++)    eps-train
``erasing``      Wei et al., CVPR 2017 (AE-PSL), sec. 3.1             erase
``grids``        none: maps laid onto the image, means over scales    make-cam, random-walk, predict
                 and mirror images                                    and the training tools
``instances``    Ahn, Cho & Kwak 2019, sec. 5 (objects told apart)    random-walk --instances
``irn``          Ahn, Cho & Kwak, CVPR 2019 (IRNet), sec. 4           irn-train, random-walk
``pamr``         Araslanov & Roth, CVPR 2020 (PAMR), sec. 4           crf --method pamr, eps-train
``psl``          Wei et al., CVPR 2017 (AE-PSL), sec. 3.2             train-seg --psl, predict
``random_walk``  Ahn & Kwak 2018, sec. 3.4                            random-walk
``saliency``     Zhu et al., CVPR 2014                                saliency
``sipe``         Chen et al., CVPR 2022 (SIPE)                        sipe-train, make-cam
``tiles``        none: large images in tiles, blended                 make-cam, random-walk, predict
===============  ===================================================  ==============================
"""
