// Package weights exchanges parameters with other programs.
//
//	Read             safetensors, or what torch.save wrote (the zip format and
//	                 the one before it): a state dict, or one inside of a
//	                 checkpoint such as the published PixPro's
//	WriteTorchvision a state dict for torch.load, under torchvision's names
//	WriteFull        all parameters as the published implementation saves them
//	WriteDetectron2  a pickle of numpy arrays under Detectron2's names
//
// Nothing that a file names is ever executed: package internal/pickle turns it
// into plain values, among which the few shapes that mean a tensor are
// recognised and all else is passed over. Tensors share the memory that the
// file was read into.
//
// What is written, and with which pickle operations, is in docs/formats.md.
package weights
