package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog/log"
)

// cudaProgram is the binary with the same commands for NVIDIA cards.
const cudaProgram = "pixpro-cuda"

// handedOver is set in the environment of a process that was handed over to, so
// that a binary under the wrong name does not hand over to itself for ever.
const handedOver = "PIXPRO_HANDED_OVER"

// handOver runs the present command line in pixpro-cuda, in place of this
// process. It returns only if that cannot be.
func handOver(ctx context.Context) error {
	if os.Getenv(handedOver) != "" {
		return fmt.Errorf("%s was built without CUDA: build it by make cuda (docs/cuda.md)", os.Args[0])
	}
	program, err := findCUDA()
	if err != nil {
		return err
	}
	if _, err := askCUDA(ctx, program); err != nil {
		return err
	}
	return replaceProcess(program, append([]string{program}, os.Args[1:]...), append(os.Environ(), handedOver+"=1"))
}

// cardsAvailable says whether handOver leads to a card. A pixpro-cuda that
// cannot tell is warned of.
func cardsAvailable(ctx context.Context) bool {
	if os.Getenv(handedOver) != "" {
		return false
	}
	program, err := findCUDA()
	if err != nil {
		return false // nobody built it
	}
	found, err := askCUDA(ctx, program)
	if err != nil {
		log.Warn().Err(err).Msg("no card can be used")
	}
	return err == nil && len(found.Cards) > 0
}

// findCUDA returns the path of pixpro-cuda beside this program, or else on PATH.
func findCUDA() (string, error) {
	if own, err := os.Executable(); err == nil {
		if own, err = filepath.EvalSymlinks(own); err == nil {
			beside := filepath.Join(filepath.Dir(own), cudaProgram)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(cudaProgram)
	if err != nil {
		return "", errNoCUDA
	}
	return path, nil
}

// askCUDA asks pixpro-cuda for its devices. It ends by itself where a driver or
// a library is missing: then the error says what it said.
func askCUDA(ctx context.Context, program string) (devicesInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "devices", "--json")
	cmd.Env = append(os.Environ(), handedOver+"=1")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		text := strings.TrimSpace(said.String() + "\n" + string(out))
		if text != "" {
			text = ": " + text
		}
		return devicesInfo{}, fmt.Errorf("%s does not start (%w%s)", program, err, text)
	}
	var found devicesInfo
	if err := json.Unmarshal(out, &found); err != nil {
		return devicesInfo{}, fmt.Errorf("%s devices --json: %w", program, err)
	}
	if found.Driver == "" {
		return devicesInfo{}, fmt.Errorf("%s was built without CUDA: build it by make cuda (docs/cuda.md)", program)
	}
	return found, nil
}
