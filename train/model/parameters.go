package model

import "errors"

// ErrParameters is the class of errors about parameters that do not fit a model.
var ErrParameters = errors.New("parameters do not fit the model")
