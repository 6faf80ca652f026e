//go:build cuda

package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
)

func TestDevicesCUDA(t *testing.T) {
	var d devicesInfo
	if err := listCards(&d); err != nil {
		t.Fatal(err)
	}
	if len(d.Cards) == 0 || d.Driver == "" || d.Toolkit == "" || len(d.Libraries) < 2 || d.Missing != "" {
		t.Fatalf("no card, driver or library: %+v", d)
	}
	for i, c := range d.Cards {
		if _, ordinal, err := device.Lookup(c.Device); err != nil || ordinal != i {
			t.Errorf("card %d is %s: number %d, %v", i, c.Device, ordinal, err)
		}
		if c.Name == "" || c.MemoryBytes < 1<<30 || c.Multiprocessors < 1 || len(c.ComputeCapability) < 3 {
			t.Errorf("card %d: %+v", i, c)
		}
		if !strings.Contains(d.text(), c.Name) {
			t.Errorf("%s is not in\n%s", c.Name, d.text())
		}
	}
}

// TestLibrariesCUDA runs the program with the libraries of other machines: a
// driver alone, packages of pip's for CUDA 12 and 13, drivers of both, no card, and
// no driver.
func TestLibrariesCUDA(t *testing.T) {
	cudatest.Open(t)
	soft, err := filepath.EvalSymlinks(findSoft(t))
	if err != nil {
		t.Fatal(err)
	}
	// link gives the software device a library's name.
	link := func(parts ...string) string {
		path := filepath.Join(parts...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.Symlink(soft, path)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	driver, venv := t.TempDir(), t.TempDir()
	link(driver, "libcuda.so.1")
	packages := filepath.Join(venv, "lib", "python3.12", "site-packages", "nvidia")
	nvrtc12, blas12 := link(packages, "cuda_nvrtc", "lib", "libnvrtc.so.12"), link(packages, "cublas", "lib", "libcublas.so.12")
	nvrtc13, blas13 := link(packages, "cu13", "lib", "libnvrtc.so.13"), link(packages, "cu13", "lib", "libcublas.so.13")

	dnn := link(packages, "cudnn", "lib", "libcudnn.so.9")

	run := func(env ...string) (d devicesInfo, stderr string, code int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "devices", "--json")
		cmd.Env = append([]string{asProgram + "=1", "PATH=" + t.TempDir(), "HOME=" + t.TempDir()}, env...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if err == nil {
			if err := json.Unmarshal(out, &d); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		return d, said.String(), cmd.ProcessState.ExitCode()
	}
	there := "LD_LIBRARY_PATH=" + driver
	for _, c := range []struct{ version, nvrtc, blas string }{{"13000", nvrtc13, blas13}, {"12040", nvrtc12, blas12}} {
		d, said, code := run(there, "VIRTUAL_ENV="+venv, "SOFTCUDA_VERSION="+c.version)
		if code != 0 || len(d.Cards) != 2 || len(d.Libraries) != 3 || d.Libraries[0].Path != c.nvrtc || d.Libraries[1].Path != c.blas || d.Libraries[2].Path != dnn {
			t.Errorf("driver %s: exit code %d, %+v: %s", c.version, code, d, said)
		}
	}
	d, said, code := run(there, "VIRTUAL_ENV="+venv, "SOFTCUDA_VERSION=11080")
	if code != 0 || len(d.Cards) != 2 || !strings.Contains(d.Missing, "no NVRTC for a driver of CUDA 11.8") || !strings.Contains(d.Missing, blas13+" needs a newer driver") {
		t.Errorf("a driver older than the toolkits: exit code %d, %+v: %s", code, d, said)
	}
	d, said, code = run(there)
	if code != 0 || len(d.Cards) != 2 || !strings.Contains(d.Missing, "no NVRTC") || !strings.Contains(d.Missing, "no cuBLAS") || !strings.Contains(d.Missing, "pip install nvidia-cublas") {
		t.Errorf("without a toolkit: exit code %d, %+v: %s", code, d, said)
	}
	if _, said, code := run(there, "SOFTCUDA_CARDS=none"); code != 1 || !strings.Contains(said, "CUDA_ERROR_NO_DEVICE") || strings.Count(said, "\n") != 1 {
		t.Errorf("without a card: exit code %d: %s", code, said)
	}
	if _, said, code := run(); code != 1 || !strings.Contains(said, "driver is not there") || !strings.Contains(said, "libcuda.so.1") || strings.Count(said, "\n") != 1 {
		t.Errorf("without a driver: exit code %d: %s", code, said)
	}
}

// findSoft finds the software device as the loader did.
func findSoft(t *testing.T) string {
	t.Helper()
	for _, folder := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
		path := filepath.Join(folder, "libcuda.so.1")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("the software device is not on LD_LIBRARY_PATH")
	return ""
}
