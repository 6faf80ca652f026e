// Package method has the methods of pre-training, a file each: their options,
// the heads that they put on the encoders, and their losses.
//
// A method is registered by name: see Register. Its Loss is built once a run
// and called once a batch with the feature maps of the query encoder, which is
// trained by gradients, and of the key encoder, its moving average. Both maps
// are of 2N images, the N first views before the N second ones: what belongs
// together lies N apart.
//
//	Model       encoders and losses of a run
//	pixpro      PixPro (Xie et al., CVPR 2021): propagated projections agree with
//	            those of cells that show the same place
//	pixcontrast PixContrast (the same): cells that show the same place are told
//	            from the others
//	densecl     DenseCL (Wang et al., CVPR 2021): cells are told from those of
//	            earlier images, matched by their features
//	instance    losses of whole images, alone or beside another method: BYOL
//	            (Grill et al. 2020), SimCLR (Chen et al. 2020)
//
// To add a method, add a file to this package, or register one from another
// module before options.Default is called.
package method
